//! What is stored, and for how long it is used: RFC 9111 §3, §4.2, §5.2.

use super::*;
use torsade::protocols::http::cache::CacheTarget;

/// An answer comes with these fields, so many seconds pass, and a second request has these.
#[track_caller]
fn check(kind: CacheKind, first: &str, answer: &str, seconds: u64, second: &str, expected: &str) {
    let scene = Scene::of(kind);
    let first = format!("GET /\n{first}");
    let got = scene.get(
        &first,
        &format!("200\n{answer}\n\none").replace("200\n\n\n", "200\n\n"),
    );
    assert!(got.starts_with("200 one (fwd="), "{got}");
    scene.pass(seconds);
    let response = scene.ask(&format!("GET /\n{second}"));
    let outcome = match scene.unanswered() {
        0 => shown(response),
        _ => {
            let asked = scene.next();
            let has = |name: &str| asked.headers.contains_key(name);
            let question = ["if-none-match", "if-modified-since"].map(has);
            match question.contains(&true) {
                true => "asks whether it holds".to_owned(),
                false => "asks".to_owned(),
            }
        }
    };
    assert_eq!(
        outcome, expected,
        "{kind:?} / {answer} / {seconds} s / {second}"
    );
}

#[test]
fn rfc9111_3_what_may_be_stored_is() {
    use CacheKind::{Private, Shared};
    let hit = "200 one (hit; ttl=10)";
    for (kind, request, answer, expected) in [
        (Shared, "", "cache-control: max-age=10", hit),
        (Private, "", "cache-control: max-age=10", hit),
        (Shared, "", "cache-control: s-maxage=10, max-age=99", hit),
        (Private, "", "cache-control: s-maxage=99, max-age=10", hit),
        (Private, "", "cache-control: private, max-age=10", hit),
        (Shared, "", "expires: @10", hit),
        (
            Shared,
            "",
            "cache-control: public, max-age=10\nset-cookie: a=b",
            hit,
        ),
        (
            Shared,
            "",
            "cache-control: no-store, must-understand, max-age=10",
            hit,
        ),
        (Shared, "", "last-modified: @-100", hit),
        (Shared, "", "", "asks"),
        (Shared, "", "cache-control: no-store", "asks"),
        (Shared, "", "cache-control: max-age=10, no-store", "asks"),
        (Private, "", "cache-control: max-age=10, no-store", "asks"),
        (Shared, "", "cache-control: private, max-age=10", "asks"),
        (
            Shared,
            "",
            "cache-control: max-age=10\nset-cookie: a=b",
            "asks",
        ),
        (
            Private,
            "",
            "cache-control: max-age=10\nset-cookie: a=b",
            hit,
        ),
        (
            Shared,
            "cache-control: no-store",
            "cache-control: max-age=10",
            "asks",
        ),
        (Shared, "", "cache-control: max-age=10\nvary: *", "asks"),
        // §3.5
        (
            Shared,
            "authorization: x",
            "cache-control: max-age=10",
            "asks",
        ),
        (
            Private,
            "authorization: x",
            "cache-control: max-age=10",
            hit,
        ),
        (
            Shared,
            "authorization: x",
            "cache-control: max-age=10, public",
            hit,
        ),
        (
            Shared,
            "authorization: x",
            "cache-control: max-age=10, must-revalidate",
            hit,
        ),
        (
            Shared,
            "authorization: x",
            "cache-control: s-maxage=10",
            hit,
        ),
    ] {
        check(kind, request, answer, 0, "", expected);
    }
}

#[test]
fn rfc9111_4_2_it_is_used_while_it_is_fresh() {
    use CacheKind::{Private, Shared};
    let asks = "asks whether it holds";
    for (kind, answer, seconds, expected) in [
        (
            Shared,
            "cache-control: max-age=10",
            9,
            "200 one (hit; ttl=1)",
        ),
        (Shared, "cache-control: max-age=10", 10, asks),
        (
            Shared,
            "cache-control: max-age=10\nage: 8",
            1,
            "200 one (hit; ttl=1)",
        ),
        (Shared, "cache-control: max-age=10\nage: 8", 2, asks),
        (Shared, "cache-control: max-age=10\ndate: @-8", 2, asks),
        (
            Shared,
            "cache-control: max-age=5, s-maxage=10",
            9,
            "200 one (hit; ttl=1)",
        ),
        (Private, "cache-control: max-age=5, s-maxage=10", 9, asks),
        (
            Shared,
            "cache-control: max-age=10\nexpires: @2",
            9,
            "200 one (hit; ttl=1)",
        ),
        (Shared, "expires: @2", 1, "200 one (hit; ttl=1)"),
        (Shared, "expires: @2", 2, asks),
        (Shared, "expires: 0", 0, asks),
        (Shared, "cache-control: no-cache, max-age=10", 0, asks),
        (Shared, "last-modified: @-100", 9, "200 one (hit; ttl=1)"),
        (Shared, "last-modified: @-100", 10, asks),
    ] {
        let answer = format!("{answer}\netag: \"1\"");
        check(kind, "", &answer, seconds, "", expected);
    }
}

#[test]
fn rfc9111_5_2_1_the_request_has_a_say() {
    let asks = "asks whether it holds";
    let hit = "200 one (hit; ttl=5)";
    for (seconds, request, expected) in [
        (5, "cache-control: no-cache", asks),
        (5, "pragma: no-cache", asks),
        (5, "cache-control: max-age=4", asks),
        (5, "cache-control: max-age=5", hit),
        (5, "cache-control: min-fresh=5", hit),
        (5, "cache-control: min-fresh=6", asks),
        (5, "cache-control: only-if-cached", hit),
        (5, "cache-control: no-store", hit),
        (12, "cache-control: max-stale=2", "200 one (hit; ttl=-2)"),
        (12, "cache-control: max-stale=1", asks),
        (12, "cache-control: max-stale", "200 one (hit; ttl=-2)"),
        (
            12,
            "cache-control: only-if-cached",
            "504  (detail=only-if-cached)",
        ),
        (
            12,
            "cache-control: only-if-cached, max-stale=2",
            "200 one (hit; ttl=-2)",
        ),
    ] {
        let answer = "cache-control: max-age=10\netag: \"1\"";
        check(CacheKind::Shared, "", answer, seconds, request, expected);
    }
    let scene = Scene::shared();
    let got = scene.hit("GET /\ncache-control: only-if-cached");
    assert_eq!(got, "504  (detail=only-if-cached)");
}

#[test]
fn rfc9111_4_2_4_no_stale_answer_where_the_origin_forbids_it() {
    use CacheKind::{Private, Shared};
    let (asks, stale) = ("asks whether it holds", "200 one (hit; ttl=-2)");
    for (kind, directive, expected) in [
        (Shared, "max-age=10", stale),
        (Shared, "max-age=10, must-revalidate", asks),
        (Shared, "max-age=10, proxy-revalidate", asks),
        (Private, "max-age=10, proxy-revalidate", stale),
        (Shared, "s-maxage=10", asks),
        (Shared, "max-age=10, no-cache", asks),
    ] {
        let answer = format!("cache-control: {directive}\netag: \"1\"");
        check(kind, "", &answer, 12, "cache-control: max-stale", expected);
    }
}

#[test]
fn rfc9111_5_1_an_answer_says_how_old_it_is() {
    let scene = Scene::shared();
    let response = scene.ask("GET /");
    scene.pass(1);
    scene.answer("200\ncache-control: max-age=60\nage: 5\ndate: @-2\n\none");
    let response = success_of(response);
    assert_eq!(field(&response, "age").as_deref(), Some("5"));
    scene.pass(10);
    let response = success_of(scene.ask("GET /"));
    assert_eq!(field(&response, "age").as_deref(), Some("16"));
    // It was there when it was made.
    assert!(field(&response, "date").is_some());
    assert_eq!(done(&response), "hit; ttl=44");
}

#[test]
fn rfc9110_6_6_1_an_answer_without_a_date_gets_one() {
    let scene = Scene::shared();
    let came = format_date(scene.reactor.system_time());
    scene.get("GET /", "200\ncache-control: max-age=60\n\none");
    scene.pass(10);
    let response = success_of(scene.ask("GET /"));
    assert_eq!(field(&response, "date"), Some(came));
}

#[test]
fn rfc9111_4_1_each_variant_goes_to_those_who_ask_for_it() {
    let scene = Scene::shared();
    let text = "GET /\naccept: text";
    let json = "GET /\naccept: json";
    let varies = "200\ncache-control: max-age=60\nvary: accept";
    assert_eq!(
        scene.get(text, &format!("{varies}\n\ntext")),
        "200 text (fwd=uri-miss; stored)"
    );
    assert_eq!(
        scene.get(json, &format!("{varies}\n\njson")),
        "200 json (fwd=vary-miss; stored)"
    );
    assert_eq!(scene.hit(text), "200 text (hit; ttl=60)");
    assert_eq!(scene.hit(json), "200 json (hit; ttl=60)");
    assert_eq!(
        scene.get("GET /", &format!("{varies}\n\nother")),
        "200 other (fwd=vary-miss; stored)"
    );
}

#[test]
fn another_host_behind_the_same_address_has_its_own_answers() {
    let scene = Scene::shared();
    let answer = "200\ncache-control: max-age=60\n\n";
    scene.get("GET /\nhost: a.example", &format!("{answer}a"));
    let got = scene.get("GET /\nhost: b.example", &format!("{answer}b"));
    assert_eq!(got, "200 b (fwd=uri-miss; stored)");
    assert_eq!(scene.hit("GET /\nhost: A.example"), "200 a (hit; ttl=60)");
    scene.get("GET /", &format!("{answer}none"));
    assert_eq!(scene.hit("GET /\nhost: origin"), "200 none (hit; ttl=60)");
}

#[test]
fn several_servers_that_answer_the_same_have_one_answer() {
    let scene = Scene::shared();
    let ask = |server: &str| {
        let mut request = ClientRequest::new(Body::empty());
        *request.uri_mut() = format!("http://{server}/").parse().expect("a URI");
        let target = CacheTarget("http://origin/".parse().expect("a URI"));
        request.extensions_mut().insert(target);
        scene.cache.fetch(request, &scene.next)
    };
    let response = ask("one");
    scene.answer("200\ncache-control: max-age=60\n\none");
    assert_eq!(shown(response), "200 one (fwd=uri-miss; stored)");
    assert_eq!(shown(ask("two")), "200 one (hit; ttl=60)");
}

#[test]
fn rfc9111_3_2_what_was_for_one_hop_is_not_stored() {
    let scene = Scene::shared();
    let answer = "200\ncache-control: max-age=60\nconnection: x-hop\nx-hop: 1\nx-own: 2\n\none";
    scene.get("GET /", answer);
    let response = success_of(scene.ask("GET /"));
    assert_eq!(field(&response, "x-hop"), None);
    assert_eq!(field(&response, "x-own").as_deref(), Some("2"));
}

#[test]
fn what_only_the_origin_can_answer_goes_past_the_cache() {
    let scene = Scene::shared();
    let answer = "200\ncache-control: max-age=60\netag: \"1\"\n\none";
    scene.get("GET /", answer);
    for (request, expected) in [
        ("GET /\nif-match: \"1\"", "200 one (fwd=bypass)"),
        ("OPTIONS /", "200 one (fwd=method)"),
        ("GET /\nupgrade: websocket", "200 one (fwd=bypass)"),
    ] {
        assert_eq!(scene.get(request, answer), expected);
    }
    assert_eq!(scene.hit("GET /"), "200 one (hit; ttl=60)");
}

#[test]
fn rfc9111_5_2_2_a_field_that_is_for_one_alone_goes_to_nobody_else() {
    use CacheKind::{Private, Shared};
    for (kind, control, is_kept) in [
        (Shared, "private=\"set-cookie\"", false),
        (Shared, "no-cache=\"x-own, set-cookie\"", false),
        (Private, "no-cache=\"set-cookie\"", false),
        (Private, "private=\"set-cookie\"", true),
    ] {
        let scene = Scene::of(kind);
        let first = scene.ask("GET /");
        let waiting = scene.ask("GET /");
        let fields = format!("cache-control: max-age=60, {control}\netag: \"1\"");
        scene.answer(&format!(
            "200\n{fields}\nset-cookie: a=1\nset-cookie: b=2\n\none"
        ));
        let first = success_of(first);
        let cookies = first.headers().get_all("set-cookie").iter().count();
        assert_eq!(cookies, 2, "who asked has them: {control}");
        let cookie = |response| field(&response, "set-cookie");
        let kept = is_kept.then(|| "a=1".to_owned());
        assert_eq!(cookie(success_of(waiting)), kept, "{control}");
        assert_eq!(cookie(success_of(scene.ask("GET /"))), kept, "{control}");
        // What is said when it is found to hold is for who asked then.
        let again = scene.ask("GET /\ncache-control: no-cache");
        scene.answer(&format!("304\n{fields}\nset-cookie: c=3"));
        let said = success_of(again);
        assert_eq!(cookie(said).as_deref(), Some("c=3"), "{control}");
        let kept = is_kept.then(|| "c=3".to_owned());
        assert_eq!(cookie(success_of(scene.ask("GET /"))), kept, "{control}");
        assert_eq!(scene.unanswered(), 0);
    }
}

#[test]
fn rfc9111_4_1_lists_that_say_the_same_are_the_same() {
    let scene = Scene::shared();
    let varies = "200\ncache-control: max-age=60\nvary: Accept-Encoding, X-Own\nvary: accept";
    let first = "accept-encoding: gzip, br\naccept: a/b;q=\"1, 2\", c\nx-own: 1, 2";
    scene.get(&format!("GET /\n{first}"), &format!("{varies}\n\none"));
    for same in [
        "accept-encoding: gzip,br\naccept: a/b;q=\"1, 2\" ,c\nx-own: 1, 2",
        "accept-encoding: gzip\naccept-encoding: br\naccept: a/b;q=\"1, 2\"\naccept: , c\nx-own: 1, 2",
    ] {
        assert_eq!(
            scene.hit(&format!("GET /\n{same}")),
            "200 one (hit; ttl=60)"
        );
    }
    for other in [
        // Of which nobody knows that it is a list.
        "accept-encoding: gzip, br\naccept: a/b;q=\"1, 2\", c\nx-own: 1,2",
        "accept-encoding: gzip, br\naccept: a/b;q=\"1,2\", c\nx-own: 1, 2",
        "accept-encoding: br, gzip\naccept: a/b;q=\"1, 2\", c\nx-own: 1, 2",
        "accept-encoding: gzip\naccept: a/b;q=\"1, 2\", c\nx-own: 1, 2",
        "accept-encoding: gzip, br, x\naccept: a/b;q=\"1, 2\", c\nx-own: 1, 2",
        "accept: a/b;q=\"1, 2\", c\nx-own: 1, 2",
    ] {
        let got = scene.get(&format!("GET /\n{other}"), &format!("{varies}\n\nother"));
        assert_eq!(got, "200 other (fwd=vary-miss; stored)", "{other}");
    }
    let empty = "200\ncache-control: max-age=60\nvary: accept";
    scene.get("GET /2", &format!("{empty}\n\none"));
    let got = scene.get("GET /2\naccept: ", &format!("{empty}\n\nother"));
    assert_eq!(got, "200 other (fwd=vary-miss; stored)");
}

#[test]
fn rfc8246_what_never_changes_is_asked_for_again_only_by_who_insists() {
    for (request, expected) in [
        ("", "200 one (hit; ttl=5)"),
        ("cache-control: max-age=0", "asks whether it holds"),
        ("cache-control: no-cache", "asks whether it holds"),
    ] {
        let answer = "cache-control: max-age=10, immutable\netag: \"1\"";
        check(CacheKind::Shared, "", answer, 5, request, expected);
    }
}
