//! Who closes, who answers, and what both are told: RFC 6455 §7.

use torsade::protocols::websocket::{CloseCode, Violation, WebSocketLimits};

use super::*;

#[test]
fn a_peer_that_closes_is_answered_with_its_code_and_the_server_ends_the_connection() {
    for (payload, answer, expected) in [
        (&b"\x03\xe8"[..], "close 1000 ", "closed 1000 (normal) \"\""),
        (b"\x0f\xa1why", "close 4001 ", "closed 4001 \"why\""),
        (b"", "close ", "closed 1005 (no status) \"\""),
    ] {
        let peer = Peer::talking_to(Scribe::quiet());
        peer.send(frame(CLOSE, payload));
        assert_eq!(peer.frames(), [answer]);
        assert!(peer.is_being_lost());
        peer.stream.end();
        assert_eq!(peer.book.take(), [expected]);
        let closed = peer.book.closed();
        assert!(closed.is_clean && closed.lost.is_clean(), "{closed:?}");
    }
}

#[test]
fn closing_says_so_behind_what_was_sent_and_waits_for_the_peer() {
    let peer = Peer::talking_to(Scribe::quiet());
    let transport = peer.book.transport();
    transport.send("last words");
    transport.close(CloseCode::GOING_AWAY, "until tomorrow");
    transport.send("unsaid");
    transport.close(CloseCode::NORMAL, "twice");
    transport.lose_connection();
    assert!(!transport.is_connected());
    assert_eq!(
        peer.frames(),
        ["text last words", "close 1001 until tomorrow"]
    );
    assert!(!peer.is_being_lost(), "the peer has not said so");
    // What comes now is nobody's, and is not answered.
    peer.send(
        [
            frame(TEXT, "a"),
            frame(PING, ""),
            frame(CLOSE, b"\x03\xe9ok"),
        ]
        .concat(),
    );
    peer.turn();
    assert_eq!(peer.frames(), [""; 0]);
    assert!(peer.is_being_lost());
    peer.stream.end();
    assert_eq!(peer.book.take(), ["closed 1001 (going away) \"ok\""]);
    assert!(peer.book.closed().is_clean);
}

#[test]
fn closing_in_the_middle_of_a_chunk_delivers_no_more_of_it() {
    let peer = Peer::talking_to(Scribe::new(|transport, _| transport.lose_connection()));
    peer.send(
        [
            frame(TEXT, "a"),
            frame(TEXT, "b"),
            frame(CLOSE, b"\x03\xe8"),
        ]
        .concat(),
    );
    assert_eq!(peer.frames(), ["close 1000 "]);
    assert!(peer.is_being_lost());
    peer.stream.end();
    assert_eq!(peer.book.take(), ["text a", "closed 1000 (normal) \"\""]);
    assert!(peer.book.closed().is_clean);
}

#[test]
fn a_peer_that_never_says_that_it_closes_is_aborted_in_time() {
    let peer = Peer::talking_to(Scribe::quiet());
    peer.book.transport().lose_connection();
    peer.wait(29);
    peer.say("I am still here");
    assert!(!peer.is_being_lost());
    peer.wait(5);
    assert!(peer.is_being_lost());
    peer.stream.end();
    let closed = peer.book.closed();
    assert!(
        matches!(closed.lost, ConnectionLost::TimedOut { .. }),
        "{closed:?}"
    );
    assert_eq!((closed.code, closed.is_clean), (CloseCode::ABNORMAL, false));
}

#[test]
fn two_that_close_at_once_are_both_done() {
    let peer = Peer::talking_to(Scribe::quiet());
    peer.book.transport().close(4000, "mine");
    peer.send(frame(CLOSE, b"\x0f\xa1yours"));
    peer.turn();
    assert_eq!(peer.frames(), ["close 4000 mine"]);
    assert!(peer.is_being_lost());
    peer.stream.end();
    let closed = peer.book.closed();
    assert_eq!(
        (u16::from(closed.code), closed.reason.as_str()),
        (4001, "yours")
    );
    assert!(closed.is_clean && closed.lost.is_clean());
}

#[test]
fn an_end_without_a_close_frame_is_1006_and_not_clean() {
    let peer = Peer::talking_to(Scribe::quiet());
    peer.send(frame(0x01, "half"));
    peer.stream.end_read();
    assert!(peer.is_being_lost());
    peer.stream.end();
    assert_eq!(peer.book.take(), ["closed 1006 (abnormal) \"\""]);
    let closed = peer.book.closed();
    assert!(
        !closed.is_clean && closed.lost.is_clean(),
        "TCP ended in order"
    );
}

#[test]
fn an_end_while_closing_is_the_end() {
    let peer = Peer::talking_to(Scribe::quiet());
    peer.book.transport().lose_connection();
    peer.stream.end_read();
    assert!(peer.is_being_lost());
    peer.stream.end();
    assert!(!peer.book.closed().is_clean);
}

#[test]
fn a_peer_that_breaks_a_rule_is_told_which_and_is_lost_for_it() {
    for (wire, told, violation) in [
        (
            vec![0x81, 1, b'a'],
            "close 1002 a client's frame is not masked (RFC 6455 §5.1)",
            Violation::NotMasked,
        ),
        (
            frame(TEXT, b"\xff"),
            "close 1007 a text is not UTF-8 (RFC 6455 §8.1)",
            Violation::NotText,
        ),
        (
            frame(0x80, "a"),
            "close 1002 a frame continues no message (RFC 6455 §5.4)",
            Violation::NothingToContinue,
        ),
    ] {
        let peer = Peer::talking_to(Scribe::quiet());
        peer.send([frame(TEXT, "before"), wire, frame(TEXT, "behind")].concat());
        assert_eq!(peer.frames(), [told]);
        assert!(peer.is_being_lost());
        peer.stream.end();
        assert_eq!(
            peer.book.take(),
            ["text before", "closed 1006 (abnormal) \"\""]
        );
        let closed = peer.book.closed();
        let ConnectionLost::Failed(failure) = &closed.lost else {
            panic!("{closed:?}");
        };
        assert_eq!(failure.downcast_ref(), Some(&violation));
    }
}

#[test]
fn what_no_close_frame_may_say_is_not_said() {
    for (code, reason, expected) in [
        (1005, "never sent", "close "),
        (1006, "lost", "close 1011 lost"),
        (0, "", "close 1011 "),
        (4999, "", "close 4999 "),
    ] {
        let peer = Peer::talking_to(Scribe::quiet());
        peer.book.transport().close(code, reason);
        assert_eq!(peer.frames(), [expected]);
    }
    // §5.5: 125 bytes, of which two are the code; no half characters.
    let peer = Peer::talking_to(Scribe::quiet());
    let long = "\u{20ac}".repeat(100);
    peer.book.transport().close(CloseCode::NORMAL, &long);
    let expected = format!("close 1000 {}", "\u{20ac}".repeat(41));
    assert_eq!(peer.frames(), [expected]);
}

#[test]
fn losing_the_connection_because_of_something_is_an_internal_error() {
    let peer = Peer::talking_to(Scribe::quiet());
    let transport = peer.book.transport();
    transport.lose_connection_because(Failure::message("out of paper"));
    assert_eq!(peer.frames(), ["close 1011 "]);
    peer.send(frame(CLOSE, b"\x03\xf3"));
    peer.turn();
    peer.stream.end();
    assert_eq!(
        peer.book.closed().lost.to_string(),
        "connection lost: out of paper"
    );
}

#[test]
fn aborting_is_immediate() {
    let peer = Peer::talking_to(Scribe::quiet());
    peer.book.transport().abort_connection();
    assert!(peer.is_being_lost());
    peer.stream.end();
    let closed = peer.book.closed();
    assert!(matches!(closed.lost, ConnectionLost::Aborted), "{closed:?}");
    assert_eq!(peer.frames(), [""; 0]);
}

#[test]
fn a_reactor_that_stops_says_1001() {
    let peer = Peer::talking_to(Scribe::quiet());
    peer.stream.stop();
    assert_eq!(peer.frames(), ["close 1001 "]);
    assert_eq!(peer.book.take(), ["closed 1006 (abnormal) \"\""]);
    let closed = peer.book.closed();
    assert!(matches!(closed.lost, ConnectionLost::Stopped), "{closed:?}");
}

#[test]
fn a_silent_peer_is_pinged_and_one_that_does_not_answer_is_aborted() {
    let peer = Peer::talking_to(Scribe::quiet());
    peer.wait(29);
    assert_eq!(peer.written(), b"");
    peer.wait(2);
    let ping = peer.written();
    assert_eq!((ping[0], ping.len()), (PING, 10));
    peer.wait(28);
    assert!(!peer.is_being_lost());
    peer.wait(2);
    assert!(peer.is_being_lost());
    peer.stream.end();
    let closed = peer.book.closed();
    let text = "connection lost: the pong took longer than 30s";
    assert_eq!(closed.lost.to_string(), text);
}

#[test]
fn a_peer_that_shows_any_sign_of_life_stays() {
    let peer = Peer::talking_to(Scribe::quiet());
    for round in 0..10 {
        peer.wait(55);
        let sign = match round % 3 {
            0 => frame(PONG, "anything"),
            1 => frame(TEXT, "hello"),
            _ => vec![PING],
        };
        peer.send(sign);
        if round % 3 == 2 {
            peer.send(&frame(PING, "")[1..]);
        }
    }
    assert!(!peer.is_being_lost());
}

#[test]
fn who_does_not_listen_does_not_judge() {
    let peer = Peer::talking_to(Scribe::quiet());
    peer.book.transport().pause_reading();
    peer.wait(1000);
    assert!(!peer.is_being_lost());
    peer.book.transport().resume_reading();
    peer.wait(100);
    assert!(peer.is_being_lost());
}

#[test]
fn a_peer_that_takes_nothing_is_aborted_and_one_that_takes_something_is_not() {
    let peer = Peer::talking_to(Scribe::quiet());
    peer.stream.set_congested(true);
    peer.wait(45);
    assert_eq!(peer.frames(), [""; 0], "nothing is added to what waits");
    assert!(!peer.is_being_lost());
    peer.wait(20);
    assert!(peer.is_being_lost());
}

#[test]
fn a_connection_without_messages_is_closed_if_that_is_wanted() {
    let limits = WebSocketLimits {
        idle: Some(Duration::from_secs(60)),
        ping_after: None,
        ..Default::default()
    };
    let peer = Peer::upgraded(WebSocketServer::new().limits(limits), Scribe::quiet());
    for _ in 0..4 {
        peer.wait(50);
        peer.say("hello");
        peer.wait(50);
        peer.book.transport().send("hello");
    }
    let frames = peer.frames();
    assert_eq!(frames.len(), 4, "{frames:?}");
    let mut frames = Vec::new();
    for _ in 0..12 {
        peer.wait(10);
        peer.send(frame(PING, ""));
        frames.extend(peer.frames());
        if !peer.book.transport().is_connected() {
            break;
        }
    }
    assert_eq!(frames.pop().as_deref(), Some("close 1001 nothing to say"));
    assert!(frames.len() >= 6 && frames.iter().all(|it| it == "pong "));
    peer.send(frame(CLOSE, b"\x03\xe9"));
    peer.turn();
    peer.stream.end();
    let closed = peer.book.closed();
    assert!(
        matches!(closed.lost, ConnectionLost::TimedOut { .. }),
        "{closed:?}"
    );
    assert!(closed.is_clean);
}

/// Hears nothing that a test would ask for.
struct Deaf;

impl Protocol for Deaf {
    fn data_received(&mut self, _: &Transport<Self>, _: &[u8]) {}
}

#[test]
fn pings_and_half_messages_are_no_messages_to_a_protocol_on_top_either() {
    let limits = WebSocketLimits {
        idle: Some(Duration::from_secs(60)),
        ping_after: None,
        ..Default::default()
    };
    let scribe = Scribe::new(|transport, _| {
        Transport::connect(Deaf, Rc::clone(transport.stream()) as Rc<dyn Stream>);
    });
    let peer = Peer::upgraded(WebSocketServer::new().limits(limits), scribe);
    peer.say("go on");
    for _ in 0..4 {
        peer.wait(50);
        peer.say("hello");
    }
    assert!(peer.book.transport().is_connected());
    peer.wait(45);
    for sign in [frame(PING, ""), frame(PONG, ""), frame(0x01, "half")] {
        peer.send(sign);
        peer.wait(20);
    }
    let frames = peer.frames();
    assert_eq!(frames, ["pong ", "close 1001 nothing to say"]);
}

#[test]
fn what_is_over_leaves_no_timer() {
    let limits = WebSocketLimits {
        idle: Some(Duration::from_secs(60)),
        ..Default::default()
    };
    for way in 0..3 {
        let peer = Peer::upgraded(WebSocketServer::new().limits(limits), Scribe::quiet());
        match way {
            0 => peer.send(frame(CLOSE, b"\x03\xe8")),
            1 => peer.book.transport().abort_connection(),
            _ => peer.stream.end_read(),
        }
        peer.stream.end();
        let dump = peer.reactor.dump().to_string();
        assert!(!dump.contains("websocket"), "{dump}");
        assert!(peer.book.is_closed());
    }
}
