//! Whether what is stored still holds: RFC 9111 §4.3, RFC 5861; the client's own conditions and ranges.

use super::*;
use torsade::reactor::testing::failure_of;

const OLD: &str = "200\ncache-control: max-age=10\netag: \"1\"\nlast-modified: @-50\n\none";

/// A scene in which an answer is stored that has been stale for five seconds.
fn stale(answer: &str) -> Scene {
    let scene = Scene::shared();
    scene.get("GET /", answer);
    scene.pass(15);
    scene
}

#[test]
fn rfc9111_4_3_1_the_origin_is_asked_whether_it_holds() {
    let scene = stale(OLD);
    let response = scene.ask("GET /\naccept: text");
    let asked = scene.answer("304\netag: \"1\"\ncache-control: max-age=20\nx-new: 1");
    assert_eq!(asked.headers["if-none-match"], "\"1\"");
    assert!(asked.headers.contains_key("if-modified-since"));
    assert_eq!(asked.headers["accept"], "text");
    let response = success_of(response);
    assert_eq!(done(&response), "fwd=stale; fwd-status=304");
    assert_eq!(field(&response, "x-new").as_deref(), Some("1"));
    // RFC 9111 §5.1: the origin has just said it.
    assert_eq!(field(&response, "age"), None);
    assert_eq!(scene.hit("GET /"), "200 one (hit; ttl=20)");
    assert_eq!(scene.cache.counts().validated, 1);
}

#[test]
fn rfc9111_4_3_3_another_answer_takes_its_place() {
    let scene = stale(OLD);
    let response = scene.ask("GET /");
    scene.answer("200\ncache-control: max-age=10\netag: \"2\"\n\ntwo");
    assert_eq!(
        shown(response),
        "200 two (fwd=stale; fwd-status=200; stored)"
    );
    assert_eq!(scene.hit("GET /"), "200 two (hit; ttl=10)");
    // One that may not be stored ends it, too.
    scene.pass(11);
    let response = scene.ask("GET /");
    scene.answer("200\ncache-control: no-store\n\nthree");
    assert_eq!(shown(response), "200 three (fwd=stale; fwd-status=200)");
    assert_eq!(scene.cache.counts().entries, 0);
}

#[test]
fn rfc9111_4_3_4_a_304_of_another_answer_is_not_taken_for_this() {
    let scene = stale(OLD);
    let response = scene.ask("GET /\nif-none-match: \"9\"");
    scene.answer("304\netag: \"2\"");
    no_result(&response);
    let asked = scene.answer("200\ncache-control: max-age=10\netag: \"2\"\n\ntwo");
    assert_eq!(asked.headers["if-none-match"], "\"9\"", "its own condition");
    assert_eq!(shown(response), "200 two (fwd=stale; stored)");
    assert_eq!(scene.hit("GET /"), "200 two (hit; ttl=10)");
}

#[test]
fn rfc9111_3_5_what_a_304_says_to_one_who_is_known_is_for_nobody_else() {
    let scene = stale(OLD);
    let ann = scene.ask("GET /\nauthorization: Basic YW5uOg==");
    let other = scene.ask("GET /");
    assert_eq!(scene.unanswered(), 1, "they wait together");
    scene.answer("304\netag: \"1\"\ncache-control: max-age=20\nx-user: ann");
    let ann = success_of(ann);
    assert_eq!(field(&ann, "x-user").as_deref(), Some("ann"));
    assert_eq!(shown(succeed(ann)), "200 one (fwd=stale; fwd-status=304)");
    // Whether it holds for others the origin has not said.
    no_result(&other);
    let asked = scene.answer("304\netag: \"1\"\ncache-control: max-age=30");
    assert_eq!(asked.headers["if-none-match"], "\"1\"");
    let other = success_of(other);
    assert_eq!(field(&other, "x-user"), None);
    assert_eq!(scene.hit("GET /"), "200 one (hit; ttl=30)");
}

#[test]
fn rfc9111_3_5_what_is_said_to_one_who_is_known_is_for_all_where_that_is_said() {
    for (kind, directive, expected) in [
        (CacheKind::Shared, "max-age=20", "asks"),
        (
            CacheKind::Shared,
            "public, max-age=20",
            "200 one (hit; ttl=20)",
        ),
        (CacheKind::Shared, "s-maxage=20", "200 one (hit; ttl=20)"),
        (
            CacheKind::Shared,
            "must-revalidate, max-age=20",
            "200 one (hit; ttl=20)",
        ),
        (CacheKind::Private, "max-age=20", "200 one (hit; ttl=20)"),
    ] {
        for (method, status) in [("GET", 304), ("HEAD", 200)] {
            let scene = Scene::of(kind);
            scene.get("GET /", OLD);
            scene.pass(15);
            let answer = format!("{status}\netag: \"1\"\ncache-control: {directive}");
            scene.get(
                &format!("{method} /\nauthorization: Basic YW5uOg=="),
                &answer,
            );
            let response = scene.ask("GET /");
            let outcome = match scene.unanswered() {
                0 => shown(response),
                _ => "asks".to_owned(),
            };
            assert_eq!(outcome, expected, "{method}, {directive}");
        }
    }
}

#[test]
fn rfc9111_4_3_2_the_clients_conditions_are_answered() {
    let scene = Scene::shared();
    scene.get("GET /", OLD);
    for (condition, status) in [
        ("if-none-match: \"1\"", 304),
        ("if-none-match: W/\"1\"", 304),
        ("if-none-match: \"0\", \"1\"", 304),
        ("if-none-match: *", 304),
        ("if-none-match: \"2\"", 200),
        ("if-modified-since: @-50", 304),
        ("if-modified-since: @-51", 200),
        ("if-none-match: \"2\"\nif-modified-since: @-50", 200),
    ] {
        for method in ["GET", "HEAD"] {
            let response = success_of(scene.ask(&format!("{method} /\n{condition}")));
            assert_eq!(response.status(), status, "{condition}");
            assert_eq!(done(&response), "hit; ttl=10");
            assert_eq!(field(&response, "etag").as_deref(), Some("\"1\""));
        }
    }
    assert_eq!(scene.unanswered(), 0);
}

#[test]
fn rfc9111_4_3_2_without_last_modified_the_date_counts() {
    let scene = Scene::shared();
    scene.get("GET /", "200\ncache-control: max-age=10\ndate: @-5\n\none");
    for (condition, status) in [("@-5", 304), ("@-6", 200)] {
        let response = scene.ask(&format!("GET /\nif-modified-since: {condition}"));
        assert_eq!(success_of(response).status(), status, "{condition}");
    }
}

#[test]
fn the_clients_conditions_count_after_the_caches_own() {
    let scene = stale(OLD);
    // The origin says that what is stored holds; the client has it.
    let response = scene.ask("GET /\nif-none-match: \"1\"");
    scene.answer("304\netag: \"1\"");
    assert_eq!(shown(response), "304  (fwd=stale; fwd-status=304)");
    // The client does not have it.
    scene.pass(15);
    let response = scene.ask("GET /\nif-none-match: \"0\"");
    let asked = scene.answer("304\netag: \"1\"");
    assert_eq!(asked.headers["if-none-match"], "\"1\"");
    assert_eq!(shown(response), "200 one (fwd=stale; fwd-status=304)");
    // The client has the new one already.
    scene.pass(15);
    let response = scene.ask("GET /\nif-none-match: \"2\"");
    scene.answer("200\ncache-control: max-age=10\netag: \"2\"\n\ntwo");
    assert_eq!(shown(response), "304  (fwd=stale; fwd-status=200; stored)");
    assert_eq!(scene.hit("GET /"), "200 two (hit; ttl=10)");
}

#[test]
fn a_condition_of_the_clients_goes_on_where_nothing_is_stored() {
    let scene = Scene::shared();
    let response = scene.ask("GET /\nif-none-match: \"1\"");
    let asked = scene.answer("304\netag: \"1\"\ncache-control: max-age=10");
    assert_eq!(asked.headers["if-none-match"], "\"1\"");
    assert_eq!(shown(response), "304  (fwd=uri-miss)");
    assert_eq!(scene.cache.counts().entries, 0);
}

#[test]
fn rfc9110_14_parts_are_made_of_what_is_stored_whole() {
    let scene = Scene::shared();
    let answer =
        "200\ncache-control: max-age=10\netag: \"1\"\ncontent-type: text/plain\n\n0123456789";
    scene.get("GET /", answer);
    for (range, status, expected, content_range) in [
        ("bytes=2-4", 206, "234", Some("bytes 2-4/10")),
        ("bytes=-3", 206, "789", Some("bytes 7-9/10")),
        ("bytes=10-", 416, "", Some("bytes */10")),
        ("bytes=nonsense", 200, "0123456789", None),
        (
            "bytes=2-4\nif-range: \"1\"",
            206,
            "234",
            Some("bytes 2-4/10"),
        ),
        ("bytes=2-4\nif-range: \"0\"", 200, "0123456789", None),
    ] {
        let response = success_of(scene.ask(&format!("GET /\nrange: {range}")));
        assert_eq!(response.status(), status, "{range}");
        assert_eq!(field(&response, "content-range").as_deref(), content_range);
        let length = response.body().length();
        let body = success_of(response.into_body().read_text(100));
        assert_eq!(body, expected);
        assert_eq!(length, Some(expected.len() as u64));
    }
    // What is in between costs more than it saves, if it is short.
    let long = format!(
        "200\ncache-control: max-age=10\n\n{}",
        "0123456789".repeat(100)
    );
    scene.get("GET /long", &long);
    let response = success_of(scene.ask("GET /long\nrange: bytes=0-1,-2"));
    let kind = field(&response, "content-type").expect("it is there");
    assert!(
        kind.starts_with("multipart/byteranges; boundary="),
        "{kind}"
    );
    let body = success_of(response.into_body().read_text(1000));
    assert!(body.contains("bytes 0-1/1000\r\n\r\n01\r\n--"), "{body}");
    assert!(
        body.contains("bytes 998-999/1000\r\n\r\n89\r\n--"),
        "{body}"
    );
    assert_eq!(scene.unanswered(), 0);
}

#[test]
fn a_part_that_comes_is_not_stored() {
    let scene = Scene::shared();
    let part = "206\ncache-control: max-age=10\ncontent-range: bytes 0-1/9\n\n01";
    for _ in 0..2 {
        let got = scene.get("GET /\nrange: bytes=0-1", part);
        assert_eq!(got, "206 01 (fwd=uri-miss)");
    }
    // The whole, if that comes, is.
    let whole = "200\ncache-control: max-age=10\n\n012345678";
    let got = scene.get("GET /\nrange: bytes=0-1", whole);
    assert!(got.ends_with("(fwd=uri-miss; stored)"), "{got}");
    assert_eq!(scene.hit("GET /"), "200 012345678 (hit; ttl=10)");
}

#[test]
fn rfc9111_3_3_nothing_that_is_a_part_is_taken_for_the_whole() {
    for answer in [
        "206\ncontent-range: bytes 0-1/9\n\n01",
        "206\ncontent-type: multipart/byteranges; boundary=x\n\n--x--",
        // Who breaks the rules: it does not say which part, or calls it the whole, or says nothing of the length.
        "206\n\n01",
        "200\ncontent-range: bytes 0-1/9\n\n01",
        "416\n",
        "416\ncontent-range: bytes */9\n",
    ] {
        let (status, rest) = answer.split_once('\n').expect("it has lines");
        let answer = format!("{status}\ncache-control: max-age=10\netag: \"1\"\n{rest}");
        for request in ["GET /\nrange: bytes=0-1", "GET /"] {
            let scene = Scene::shared();
            let got = scene.get(request, &answer);
            assert!(got.ends_with("(fwd=uri-miss)"), "{answer}: {got}");
            let got = scene.get("GET /", "200\ncache-control: max-age=10\n\n012345678");
            assert_eq!(got, "200 012345678 (fwd=uri-miss; stored)", "{answer}");
        }
    }
}

#[test]
fn a_part_of_what_is_stale_is_sent_when_it_holds() {
    let scene = stale(OLD);
    let response = scene.ask("GET /\nrange: bytes=0-1");
    let asked = scene.answer("304\netag: \"1\"");
    assert_eq!(asked.headers["range"], "bytes=0-1");
    assert_eq!(shown(response), "206 on (fwd=stale; fwd-status=304)");
    scene.pass(15);
    let response = scene.ask("GET /\nrange: bytes=0-1");
    scene.answer("206\netag: \"2\"\ncontent-range: bytes 0-1/3\n\ntw");
    assert_eq!(shown(response), "206 tw (fwd=stale; fwd-status=206)");
    assert_eq!(scene.cache.counts().entries, 0, "it has changed");
}

#[test]
fn rfc9111_4_head_is_answered_from_a_get() {
    let scene = Scene::shared();
    scene.get("GET /", OLD);
    let response = success_of(scene.ask("HEAD /"));
    assert_eq!(field(&response, "content-length").as_deref(), Some("3"));
    assert_eq!(shown(succeed(response)), "200  (hit; ttl=10)");
    // Nothing is stored of an answer to HEAD.
    scene.get("HEAD /other", OLD);
    assert_eq!(scene.cache.counts().entries, 1);
}

#[test]
fn rfc9111_4_3_5_head_freshens_what_is_stored_or_ends_it() {
    for (answer, expected) in [
        (
            "etag: \"1\"\ncache-control: max-age=30\ncontent-length: 3",
            "200 one (hit; ttl=30)",
        ),
        ("etag: \"1\"", "200 one (hit; ttl=10)"),
        ("etag: \"2\"", "asks"),
        ("content-length: 4", "asks"),
        ("last-modified: @0", "asks"),
    ] {
        let scene = stale(OLD);
        let got = scene.get("HEAD /", &format!("200\n{answer}"));
        assert_eq!(got, "200  (fwd=stale)");
        let response = scene.ask("GET /");
        let outcome = match scene.unanswered() {
            0 => shown(response),
            _ => "asks".to_owned(),
        };
        assert_eq!(outcome, expected, "{answer}");
    }
}

#[test]
fn rfc9111_4_3_5_a_head_that_finds_something_freshens_no_answer_that_there_is_nothing() {
    for status in ["404", "410", "301", "203"] {
        let scene = stale(&OLD.replacen("200", status, 1));
        let got = scene.get("HEAD /", "200\ncache-control: max-age=60");
        assert_eq!(got, "200  (fwd=stale)");
        let response = scene.ask("GET /");
        no_result(&response);
        scene.answer("200\n\nnew");
        assert!(shown(response).starts_with("200 new "), "{status}");
    }
}

#[test]
fn rfc9110_15_4_5_what_was_not_there_is_asked_for_anew_and_not_whether_that_holds() {
    for status in ["404", "410", "301"] {
        let scene = stale(&OLD.replacen("200", status, 1));
        let response = scene.ask("GET /");
        // To a question with conditions the answer would be 304: that is how it was before it was not there.
        let asked = scene.answer("200\netag: \"1\"\nlast-modified: @-65\n\none");
        for condition in ["if-none-match", "if-modified-since"] {
            assert!(!asked.headers.contains_key(condition), "{status}");
        }
        assert_eq!(
            shown(response),
            "200 one (fwd=stale; fwd-status=200; stored)"
        );
        // A 304 that comes all the same makes nothing of it fresh.
        let scene = stale(&OLD.replacen("200", status, 1));
        let response = scene.ask("GET /");
        scene.answer("304\netag: \"1\"\ncache-control: max-age=60");
        scene.answer("200\n\nnew");
        assert!(shown(response).starts_with("200 new "), "{status}");
    }
}

#[test]
fn rfc5861_3_a_stale_answer_goes_out_while_the_origin_is_asked() {
    let old = "200\ncache-control: max-age=10, stale-while-revalidate=20\netag: \"1\"\n\none";
    let scene = stale(old);
    for _ in 0..3 {
        let response = scene.ask("GET /\nif-none-match: \"0\"\nrange: bytes=0-0");
        assert_eq!(shown(response), "206 o (hit; ttl=-5)");
        assert_eq!(scene.unanswered(), 1, "it is asked once");
    }
    // Who wants it fresh waits.
    let response = scene.ask("GET /\ncache-control: max-age=60");
    no_result(&response);
    assert_eq!(scene.unanswered(), 1);
    let asked = scene.answer("200\ncache-control: max-age=10\netag: \"2\"\n\ntwo");
    assert_eq!(asked.headers["if-none-match"], "\"1\"");
    assert!(!asked.headers.contains_key("range"));
    assert_eq!(
        shown(response),
        "200 two (fwd=stale; fwd-status=200; stored; collapsed)"
    );
    assert_eq!(scene.hit("GET /"), "200 two (hit; ttl=10)");
    // Where that is forbidden it is asked first.
    for directive in [
        "must-revalidate",
        "proxy-revalidate",
        "no-cache",
        "s-maxage=10",
    ] {
        let scene = stale(&old.replace("max-age", &format!("{directive}, max-age")));
        no_result(&scene.ask("GET /"));
    }
    // Beyond that time, too.
    let scene = stale(old);
    scene.pass(16);
    no_result(&scene.ask("GET /"));
}

#[test]
fn rfc5861_3_an_origin_that_fails_in_the_background_is_asked_again() {
    let scene =
        stale("200\ncache-control: max-age=10, stale-while-revalidate=20\netag: \"1\"\n\none");
    for _ in 0..2 {
        assert_eq!(shown(scene.ask("GET /")), "200 one (hit; ttl=-5)");
        scene.next().trigger.errback(Failure::message("down"));
    }
    assert_eq!(scene.cache.counts().under_way, 0);
}

#[test]
fn rfc5861_4_a_stale_answer_stands_in_for_an_error() {
    let if_error = "200\ncache-control: max-age=10, stale-if-error=20\netag: \"1\"\n\none";
    let must =
        "200\ncache-control: max-age=10, stale-if-error=20, must-revalidate\netag: \"1\"\n\none";
    for (stored, request, answer, expected) in [
        (
            if_error,
            "",
            "503",
            "200 one (fwd=stale; fwd-status=503; ttl=-5; detail=stale-if-error)",
        ),
        (
            if_error,
            "",
            "500",
            "200 one (fwd=stale; fwd-status=500; ttl=-5; detail=stale-if-error)",
        ),
        (if_error, "", "404", "404  (fwd=stale; fwd-status=404)"),
        (
            if_error,
            "cache-control: stale-if-error=4",
            "503",
            "503  (fwd=stale; fwd-status=503)",
        ),
        (
            if_error,
            "cache-control: no-cache",
            "503",
            "503  (fwd=stale; fwd-status=503)",
        ),
        (OLD, "", "503", "503  (fwd=stale; fwd-status=503)"),
        (
            OLD,
            "cache-control: stale-if-error=9",
            "503",
            "200 one (fwd=stale; fwd-status=503; ttl=-5; detail=stale-if-error)",
        ),
        (must, "", "503", "503  (fwd=stale; fwd-status=503)"),
    ] {
        let scene = stale(stored);
        let got = scene.get(&format!("GET /\n{request}"), answer);
        assert_eq!(got, expected, "{stored} / {request} / {answer}");
    }
    let scene = stale(if_error);
    let response = scene.ask("GET /");
    scene.next().trigger.errback(Failure::message("down"));
    assert_eq!(
        shown(response),
        "200 one (fwd=stale; ttl=-5; detail=stale-if-error)"
    );
    let scene = stale(OLD);
    let response = scene.ask("GET /");
    scene.next().trigger.errback(Failure::message("down"));
    assert_eq!(failure_of(response).to_string(), "down");
}

#[test]
fn a_stale_answer_stands_in_where_nobody_says_so_for_as_long_as_it_is_told() {
    let scene = Scene::with(CacheKind::Shared, |cache| {
        cache.stale_if_error(Duration::from_secs(6))
    });
    scene.get("GET /", OLD);
    scene.pass(16);
    let got = scene.get("GET /", "503");
    assert!(got.ends_with("detail=stale-if-error)"), "{got}");
    scene.pass(1);
    assert_eq!(
        scene.get("GET /", "503"),
        "503  (fwd=stale; fwd-status=503)"
    );
}
