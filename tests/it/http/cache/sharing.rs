//! Several that want the same wait for one answer: RFC 9111 §4.

use super::*;
use torsade::reactor::testing::failure_of;

const ANSWER: &str = "200\ncache-control: max-age=60\n\none";

#[test]
fn several_that_want_the_same_wait_for_one_answer() {
    let scene = Scene::shared();
    let responses: Vec<_> = (0..3).map(|_| scene.ask("GET /")).collect();
    let conditional = scene.ask("GET /\nif-none-match: \"1\"");
    assert_eq!(scene.unanswered(), 1);
    scene.answer("200\ncache-control: max-age=60\netag: \"1\"\n\none");
    let got: Vec<_> = responses.into_iter().map(shown).collect();
    let collapsed = "200 one (fwd=uri-miss; stored; collapsed)";
    assert_eq!(
        got,
        ["200 one (fwd=uri-miss; stored)", collapsed, collapsed]
    );
    assert_eq!(shown(conditional), "304  (fwd=uri-miss; stored; collapsed)");
    assert_eq!(scene.cache.counts().collapsed, 3);
}

#[test]
fn what_is_for_one_alone_is_not_shared() {
    for answer in [
        "cache-control: private",
        "cache-control: no-store",
        "x: y",
        "vary: *",
    ] {
        let scene = Scene::shared();
        let responses: Vec<_> = (0..3).map(|_| scene.ask("GET /")).collect();
        assert_eq!(scene.unanswered(), 1);
        scene.answer(&format!("200\n{answer}\n\nfirst"));
        // Each of the others asks for itself, and does not wait again.
        assert_eq!(scene.unanswered(), 2);
        scene.answer(&format!("200\n{answer}\n\nsecond"));
        scene.answer(&format!("200\n{answer}\n\nthird"));
        let got: Vec<_> = responses.into_iter().map(shown).collect();
        let said = "(fwd=uri-miss)";
        assert_eq!(
            got,
            [
                format!("200 first {said}"),
                format!("200 second {said}"),
                format!("200 third {said}")
            ]
        );
        // From now on nobody waits for what cannot be shared, until it can be.
        let responses = [scene.ask("GET /"), scene.ask("GET /")];
        assert_eq!(scene.unanswered(), 2);
        scene.answer(ANSWER);
        scene.answer(ANSWER);
        assert_eq!(responses.map(shown), ["200 one (fwd=uri-miss; stored)"; 2]);
        scene.pass(61);
        let waiting = [scene.ask("GET /"), scene.ask("GET /")];
        assert_eq!(scene.unanswered(), 1);
        drop(waiting);
    }
}

#[test]
fn what_must_be_asked_for_each_time_is_asked_for_each_time() {
    let scene = Scene::shared();
    let responses = [scene.ask("GET /"), scene.ask("GET /")];
    scene.answer("200\ncache-control: no-cache\netag: \"1\"\n\none");
    assert_eq!(scene.unanswered(), 1);
    let asked = scene.answer("304");
    assert_eq!(asked.headers["if-none-match"], "\"1\"");
    assert_eq!(
        responses.map(shown),
        [
            "200 one (fwd=uri-miss; stored)",
            "200 one (fwd=stale; fwd-status=304)"
        ]
    );
}

#[test]
fn who_wants_the_origin_itself_does_not_wait() {
    let scene = Scene::shared();
    let first = scene.ask("GET /");
    for request in [
        "GET /\ncache-control: no-cache",
        "GET /\ncache-control: no-store",
        "GET /\nrange: bytes=0-1",
        "HEAD /",
        "GET /other",
    ] {
        let before = scene.unanswered();
        no_result(&scene.ask(request));
        assert_eq!(scene.unanswered(), before + 1, "{request}");
    }
    drop(first);
}

#[test]
fn rfc9111_4_1_who_needs_another_variant_asks_for_it() {
    let scene = Scene::shared();
    let answer = "200\ncache-control: max-age=60\nvary: accept";
    let (a, b) = ("GET /\naccept: a", "GET /\naccept: b");
    // Nobody knows yet what it depends on.
    let responses = [scene.ask(a), scene.ask(b), scene.ask(a)];
    assert_eq!(scene.unanswered(), 1);
    scene.answer(&format!("{answer}\n\na"));
    assert_eq!(scene.unanswered(), 1);
    scene.answer(&format!("{answer}\n\nb"));
    assert_eq!(
        responses.map(shown),
        [
            "200 a (fwd=uri-miss; stored)",
            "200 b (fwd=vary-miss; stored)",
            "200 a (fwd=uri-miss; stored; collapsed)"
        ]
    );
    // Now it is known.
    scene.pass(61);
    let responses = [scene.ask(a), scene.ask(b)];
    assert_eq!(scene.unanswered(), 2);
    drop(responses);
}

#[test]
fn a_failure_is_everybodys() {
    let scene = Scene::shared();
    let responses = [scene.ask("GET /"), scene.ask("GET /")];
    scene.next().trigger.errback(Failure::message("down"));
    for response in responses {
        assert_eq!(failure_of(response).to_string(), "down");
    }
    assert_eq!(scene.unanswered(), 0);
    assert_eq!(scene.cache.counts().under_way, 0);
}

#[test]
fn who_asked_first_may_go() {
    let scene = Scene::shared();
    let (first, second) = (scene.ask("GET /"), scene.ask("GET /"));
    first.cancel();
    drop(first.add_errback(|_| Ok(Response::default())));
    scene.answer(ANSWER);
    assert_eq!(shown(second), "200 one (fwd=uri-miss; stored; collapsed)");
}

#[test]
fn when_nobody_waits_any_more_nothing_is_asked() {
    let scene = Scene::shared();
    let responses = [scene.ask("GET /"), scene.ask("GET /")];
    let asked = scene.next();
    for response in responses {
        assert!(asked.trigger.is_open());
        response.cancel();
        drop(response.add_errback(|_| Ok(Response::default())));
    }
    assert!(!asked.trigger.is_open());
    assert_eq!(scene.cache.counts().under_way, 0);
    // Who comes then asks anew.
    no_result(&scene.ask("GET /"));
    assert_eq!(scene.unanswered(), 1);
}

#[test]
fn a_validation_is_shared() {
    let scene = Scene::shared();
    scene.get(
        "GET /",
        "200\ncache-control: max-age=10\netag: \"1\"\n\none",
    );
    scene.pass(15);
    let responses = [scene.ask("GET /"), scene.ask("GET /")];
    assert_eq!(scene.unanswered(), 1);
    scene.answer("304\netag: \"1\"");
    assert_eq!(
        responses.map(shown),
        [
            "200 one (fwd=stale; fwd-status=304)",
            "200 one (fwd=stale; fwd-status=304; collapsed)"
        ]
    );
}

#[test]
fn the_cache_may_be_asked_from_every_callback() {
    let scene = Scene::shared();
    let (cache, next) = (scene.cache.clone(), Rc::clone(&scene.next));
    let again = scene.ask("GET /").add_callback(move |_| {
        cache.clear();
        let mut request = ClientRequest::new(Body::empty());
        *request.uri_mut() = "http://origin/".parse().expect("a URI");
        cache.fetch(request, &next)
    });
    let second = scene.ask("GET /");
    scene.answer(ANSWER);
    assert_eq!(shown(second), "200 one (fwd=uri-miss; stored; collapsed)");
    scene.answer(ANSWER);
    assert_eq!(shown(again), "200 one (fwd=uri-miss; stored)");
}
