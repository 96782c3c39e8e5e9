//! How TLS ends: in order, cut short, too slow, broken.

use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::tls::{ServerConfig, TlsError, TlsLimits, TlsStream, handshake};
use torsade::reactor::Stream;
use torsade::reactor::testing::{Chunks, MemoryPair, memory_pair, virtual_time_reactor};

use super::authority::{Authority, localhost};
use super::speaker::{Seen, Speaker, Talk};

fn talk(client: Speaker, server: Speaker) -> Talk {
    let authority = Authority::new();
    let talk = Talk::new((client, &authority.client()), (server, &authority.server()));
    talk.run();
    talk
}

/// A server on TLS, and a client that speaks no TLS.
struct Plain {
    reactor: Reactor,
    below: MemoryPair,
    client: Transport<Speaker>,
    at_client: Seen,
    at_server: Seen,
    server: Rc<TlsStream>,
}

fn plain(config: &ServerConfig) -> Plain {
    let reactor = virtual_time_reactor();
    let below = memory_pair(&reactor);
    let (client, server) = (Speaker::default(), Speaker::default());
    let (at_client, at_server) = (client.seen.clone(), server.seen.clone());
    let client = Transport::connect(client, Rc::clone(&below.client));
    let stream = TlsStream::server(Rc::clone(&below.server), config);
    Transport::connect(server, Rc::clone(&stream) as Rc<dyn Stream>);
    Plain {
        reactor,
        below,
        client,
        at_client,
        at_server,
        server: stream,
    }
}

#[test]
fn losing_the_connection_sends_everything_first_whenever_it_is_asked() {
    for written in [0, 1, 5000, 300_000] {
        // During the handshake, and after it.
        for turns in [0, 3, 100] {
            let authority = Authority::new();
            let talk = Talk::new(
                (Speaker::default(), &authority.client()),
                (Speaker::default(), &authority.server()),
            );
            talk.pump.set_chunks(Chunks::Of(1000));
            for _ in 0..turns {
                talk.reactor.turn(Some(Duration::ZERO)).expect("a turn");
            }
            talk.client.write(vec![b'x'; written]);
            talk.client.lose_connection();
            talk.client.write("dropped");
            assert!(!talk.client.is_connected());
            talk.run();
            assert_eq!(talk.at_server.data.borrow().len(), written);
            talk.at_client.is_lost_with("Done");
            if written > 0 {
                talk.at_server.is_lost_with("Done");
            }
            assert!(talk.at_server.reason.borrow().is_some());
            let lost = |seen: &Seen| seen.events.borrow().iter().filter(|e| *e == "lost").count();
            assert_eq!((lost(&talk.at_client), lost(&talk.at_server)), (1, 1));
        }
    }
}

#[test]
fn both_sides_may_lose_the_connection_at_once() {
    let talk = talk(Speaker::default(), Speaker::default());
    talk.client.write("last");
    talk.server.write("words");
    talk.client.lose_connection();
    talk.server.lose_connection();
    talk.run();
    talk.at_client.is_lost_with("Done");
    talk.at_server.is_lost_with("Done");
}

#[test]
fn a_closing_alert_is_half_a_close() {
    let talk = talk(Speaker::default(), Speaker::half_open());
    talk.client.write("question");
    talk.client.lose_write_connection();
    talk.client.write("dropped");
    talk.run();
    talk.at_server.check(["made", "read lost"]);
    assert_eq!(talk.at_server.text(), "question");
    talk.server.write("answer");
    talk.run();
    assert_eq!(talk.at_client.text(), "answer");
    talk.server.lose_connection();
    talk.run();
    talk.at_client.check(["made", "read lost", "lost"]);
    talk.at_server.is_lost_with("Done");
    talk.at_client.is_lost_with("Done");
}

#[test]
fn a_connection_whose_both_halves_are_closed_is_over() {
    let talk = talk(Speaker::half_open(), Speaker::half_open());
    talk.client.write("question");
    talk.client.lose_write_connection();
    talk.run();
    talk.at_client.check(["made"]);
    talk.server.write("answer");
    talk.server.lose_write_connection();
    talk.run();
    assert_eq!(talk.at_client.text(), "answer");
    for seen in [&talk.at_client, &talk.at_server] {
        seen.check(["made", "read lost", "lost"]);
        seen.is_lost_with("Done");
    }
}

#[test]
fn an_end_without_a_closing_alert_is_told_from_a_clean_one() {
    let talk = talk(Speaker::default(), Speaker::half_open());
    talk.client.write("the whole truth, and");
    talk.run();
    // Past TLS: whoever sits in between ends the stream.
    talk.below.client.lose_write_connection();
    talk.run();
    assert_eq!(talk.at_server.text(), "the whole truth, and");
    talk.at_server.check(["made", "lost"]);
    assert_eq!(talk.at_server.error(), TlsError::Truncated);
}

#[test]
fn what_was_written_before_a_cut_still_leaves() {
    let talk = talk(Speaker::default(), Speaker::default());
    talk.server.pause_reading();
    talk.below.client.lose_write_connection();
    talk.server.write("still here");
    talk.server.resume_reading();
    talk.run();
    assert_eq!(talk.at_client.text(), "still here");
    assert_eq!(talk.at_server.error(), TlsError::Truncated);
}

#[test]
fn an_abort_is_immediate_and_the_peer_sees_a_reset_or_a_cut() {
    let talk = talk(Speaker::default(), Speaker::default());
    talk.client.write("never seen");
    talk.client.abort_connection();
    talk.at_client.check(["made"]);
    talk.run();
    talk.at_client.is_lost_with("Aborted");
    assert_eq!(talk.at_server.text(), "");
    let reason = format!("{:?}", talk.at_server.reason.borrow());
    assert!(reason.contains("ConnectionReset"), "{reason}");
}

#[test]
fn a_handshake_that_takes_too_long_is_aborted_with_its_reason() {
    let config = Authority::new().server();
    let limit = Duration::from_secs(7);
    let limits = TlsLimits {
        handshake: limit,
        ..TlsLimits::default()
    };
    let plain = plain(&config.limits(limits));
    let begin = plain.reactor.now();
    // A slow loris: something comes, and never enough.
    plain.client.write([22, 3, 1]);
    let failure = plain.reactor.run_until(plain.server.handshake());
    let failure = failure.expect_err("it is too slow");
    assert_eq!(
        failure.downcast_ref(),
        Some(&TlsError::HandshakeTimedOut { limit })
    );
    plain.below.pump.run().expect("it rests");
    assert_eq!(plain.reactor.now() - begin, limit);
    plain
        .at_server
        .is_lost_with("TimedOut { waiting_for: \"the TLS handshake\", limit: 7s }");
}

#[test]
fn the_limits_are_there_by_default() {
    let limits = TlsLimits::default();
    assert_eq!(limits.handshake, Duration::from_secs(60));
    assert_eq!(limits.shutdown, Duration::from_secs(30));
}

#[test]
fn a_peer_that_never_answers_the_closing_alert_is_left_after_the_limit() {
    let talk = talk(Speaker::default(), Speaker::default());
    talk.pump.to_client().hold();
    let begin = talk.reactor.now();
    talk.client.write("all of it");
    talk.client.lose_connection();
    talk.run();
    assert_eq!(talk.at_server.text(), "all of it");
    talk.at_client.check(["made"]);
    while talk.at_client.reason.borrow().is_none() {
        talk.reactor.turn(None).expect("a limit is scheduled");
    }
    assert_eq!(talk.reactor.now() - begin, Duration::from_secs(30));
    // Everything was sent: that is an end in order.
    talk.at_client.is_lost_with("Done");
}

#[test]
fn a_peer_that_reads_nothing_cannot_hold_up_the_end() {
    let talk = talk(Speaker::default(), Speaker::default());
    talk.server.pause_reading();
    talk.client.write(vec![0; 1 << 20]);
    talk.client.lose_connection();
    talk.run();
    while talk.at_client.reason.borrow().is_none() {
        talk.reactor.turn(None).expect("a limit is scheduled");
    }
    talk.at_client
        .is_lost_with("TimedOut { waiting_for: \"sending the rest before closing\", limit: 30s }");
}

#[test]
fn a_peer_that_takes_the_rest_slowly_gets_all_of_it() {
    let talk = talk(Speaker::default(), Speaker::default());
    // A record at a time.
    talk.pump.set_capacity(16 << 10);
    talk.server.pause_reading();
    talk.client.write(vec![b'x'; 1 << 20]);
    talk.client.lose_connection();
    let begin = talk.reactor.now();
    for _ in 0..1000 {
        if talk.at_client.reason.borrow().is_some() {
            break;
        }
        let wait = sleep(&talk.reactor, Duration::from_secs(20));
        talk.reactor.run_until(wait).expect("time passes");
        talk.server.resume_reading();
        for _ in 0..2 {
            talk.reactor.turn(Some(Duration::ZERO)).expect("it turns");
        }
        talk.server.pause_reading();
    }
    talk.at_client.is_lost_with("Done");
    let lasted = talk.reactor.now() - begin;
    assert!(lasted > Duration::from_secs(100), "{lasted:?}");
    talk.server.resume_reading();
    talk.run();
    assert_eq!(talk.at_server.data.borrow().len(), 1 << 20);
}

#[test]
fn something_that_is_no_tls_gets_an_alert_and_a_typed_end() {
    let plain = plain(&Authority::new().server());
    plain.client.write("GET / HTTP/1.1\r\n\r\n");
    plain.below.pump.run().expect("it rests");
    assert_eq!(plain.at_server.error(), TlsError::NotTls);
    // A fatal alert (RFC 8446 §6): type 21, level 2.
    let answer = plain.at_client.data.borrow();
    assert_eq!((answer[0], answer[5]), (21, 2), "{answer:?}");
    plain.at_client.is_lost_with("Done");
}

#[test]
fn a_record_that_was_tampered_with_is_a_bad_record_and_the_peer_is_told() {
    let talk = talk(Speaker::default(), Speaker::default());
    // Past TLS, as somebody in between would.
    talk.below.client.write(&[23, 3, 3, 0, 30]);
    talk.below.client.write(&[7; 30]);
    talk.run();
    assert!(matches!(talk.at_server.error(), TlsError::BadRecord(_)));
    let told = talk.at_client.error();
    assert!(matches!(told, TlsError::PeerAlert(_)), "{told:?}");
}

#[test]
fn an_end_in_the_middle_of_the_handshake_is_told() {
    let plain = plain(&Authority::new().server());
    let waiting = plain.server.handshake();
    plain.client.lose_connection();
    plain.below.pump.run().expect("it rests");
    assert_eq!(plain.at_server.error(), TlsError::HandshakeCutShort);
    let failure = plain.reactor.run_until(waiting).expect_err("it failed");
    assert!(failure.check::<TlsError>());
    // Also whoever asks later is told.
    let failure = plain.server.handshake().into_result().expect("at once");
    let failure = failure.expect_err("it failed");
    assert_eq!(failure.downcast_ref(), Some(&TlsError::HandshakeCutShort));
}

#[test]
fn a_transport_without_tls_has_no_handshake() {
    let reactor = virtual_time_reactor();
    let pair = memory_pair(&reactor);
    let transport = Transport::connect(Speaker::default(), pair.client);
    let failure = handshake(&transport).into_result().expect("at once");
    assert!(failure.expect_err("there is none").check::<TlsError>());
    assert!(tls::session(&transport).is_none());
}

#[test]
fn a_receiver_that_comes_after_the_end_is_told_the_reason() {
    let (reactor, authority) = (virtual_time_reactor(), Authority::new());
    let pair = memory_pair(&reactor);
    let stream = TlsStream::client(pair.client, &authority.client(), localhost());
    Transport::connect(Speaker::default(), pair.server).write("no TLS at all");
    pair.pump.run().expect("it rests");
    let late = Speaker::default();
    let seen = late.seen.clone();
    Transport::connect(late, stream as Rc<dyn Stream>);
    pair.pump.run().expect("it rests");
    seen.check(["made", "lost"]);
    assert_eq!(seen.error(), TlsError::NotTls);
}

#[test]
fn every_call_in_every_callback_is_allowed() {
    type Call = fn(&Transport<Speaker>);
    let calls: [Call; 9] = [
        |transport| transport.lose_connection(),
        |transport| transport.abort_connection(),
        |transport| transport.lose_write_connection(),
        |transport| transport.pause_reading(),
        |transport| {
            transport.pause_reading();
            transport.resume_reading();
        },
        |transport| transport.write(vec![b'y'; 40_000]),
        |transport| drop(transport.flush()),
        |transport| transport.set_limits(transport.limits()),
        |transport| {
            drop((
                transport.unsent(),
                transport.is_congested(),
                handshake(transport),
            ))
        },
    ];
    for first in calls {
        for second in calls {
            let server = Speaker::default().on_data(move |transport, _| {
                first(transport);
                second(transport);
            });
            let talk = talk(Speaker::default(), server);
            talk.client.write(vec![b'x'; 50_000]);
            talk.run();
            talk.server.abort_connection();
            talk.client.abort_connection();
            talk.run();
            let ends = [&talk.at_client, &talk.at_server];
            for seen in ends {
                let events = seen.events.borrow();
                assert_eq!(events.iter().filter(|event| *event == "lost").count(), 1);
                assert_eq!(events.last().map(String::as_str), Some("lost"));
            }
        }
    }
}

#[test]
fn a_peer_that_reads_only_when_it_has_sent_everything_gets_what_came_before_the_end() {
    const ASKED: usize = 2 << 20;
    const ANSWERED: usize = 400_000;
    let server = Speaker::default().on_data(|transport, _| {
        transport.write(vec![b'x'; ANSWERED]);
        transport.lose_connection();
    });
    let talk = talk(Speaker::half_open(), server);
    talk.client.pause_reading();
    talk.client.write(vec![b'?'; ASKED]);
    talk.run();
    assert_eq!(talk.client.unsent(), 0, "what nobody wants is taken");
    talk.client.resume_reading();
    talk.run();
    assert_eq!(talk.at_client.data.borrow().len(), ANSWERED);
}

#[test]
fn who_has_lost_the_connection_hears_nothing_more_of_the_pace() {
    let talk = talk(Speaker::default(), Speaker::default());
    talk.client.pause_reading();
    talk.server.write(vec![b'x'; 400_000]);
    talk.server.lose_connection();
    talk.run();
    talk.at_server.check(["made"]);
    talk.client.resume_reading();
    talk.run();
    assert_eq!(talk.at_client.data.borrow().len(), 400_000);
    talk.at_server.check(["made", "lost"]);
}
