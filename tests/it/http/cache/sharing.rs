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

#[test]
fn a_cookie_that_comes_when_an_answer_is_found_to_hold_is_for_who_asked() {
    use CacheKind::{Private, Shared};
    for (kind, control, is_for_all) in [
        (Shared, "max-age=10", false),
        (Shared, "max-age=10, public", true),
        (Shared, "s-maxage=10", true),
        (Private, "max-age=10", true),
    ] {
        let cookie = |response| field(&success_of(response), "set-cookie");
        let fields = format!("cache-control: {control}\netag: \"1\"");
        let scene = Scene::of(kind);
        scene.get("GET /", &format!("200\n{fields}\n\none"));
        scene.pass(15);
        let first = scene.ask("GET /");
        let waiting = scene.ask("GET /");
        scene.answer(&format!("304\n{fields}\nset-cookie: sid=a"));
        assert_eq!(cookie(first).as_deref(), Some("sid=a"), "{control}");
        let others = is_for_all.then(|| "sid=a".to_owned());
        assert_eq!(cookie(waiting), others, "{control}");
        assert_eq!(cookie(scene.ask("GET /")), others, "{control}");
        assert_eq!(scene.unanswered(), 0);
        // Who asked has gone: it is for nobody.
        scene.pass(15);
        let gone = scene.ask("GET /");
        let waiting = scene.ask("GET /");
        gone.cancel();
        drop(gone.add_errback(|_| Ok(Response::default())));
        scene.answer(&format!("304\n{fields}\nset-cookie: sid=b"));
        let others = is_for_all.then(|| "sid=b".to_owned());
        assert_eq!(cookie(waiting), others, "{control}");
        assert_eq!(cookie(scene.ask("GET /")), others, "{control}");
        // So it is with the head alone.
        scene.pass(15);
        let head = scene.ask("HEAD /");
        scene.answer(&format!("200\n{fields}\nset-cookie: sid=c"));
        assert_eq!(cookie(head).as_deref(), Some("sid=c"), "{control}");
        let others = is_for_all.then(|| "sid=c".to_owned());
        assert_eq!(cookie(scene.ask("GET /")), others, "{control}");
        assert_eq!(scene.unanswered(), 0);
    }
}

#[test]
fn a_cookie_that_was_for_everybody_goes_when_the_answer_is_not_any_more() {
    let scene = Scene::shared();
    let answer = "200\ncache-control: public, max-age=10\netag: \"1\"\nset-cookie: a=b\n\none";
    scene.get("GET /", answer);
    let cookie = |response| field(&success_of(response), "set-cookie");
    assert_eq!(cookie(scene.ask("GET /")).as_deref(), Some("a=b"));
    scene.pass(15);
    let response = scene.ask("GET /");
    scene.answer("304\ncache-control: max-age=10\netag: \"1\"");
    assert_eq!(cookie(response), None);
    assert_eq!(cookie(scene.ask("GET /")), None);
    assert_eq!(scene.unanswered(), 0);
}

#[test]
fn what_holds_and_is_for_one_alone_from_now_on_is_not_shared() {
    for control in ["private", "no-store"] {
        let scene = Scene::shared();
        scene.get(
            "GET /",
            "200\ncache-control: max-age=10\netag: \"1\"\n\none",
        );
        scene.pass(15);
        let first = scene.ask("GET /");
        let waiting = scene.ask("GET /");
        scene.answer(&format!(
            "304\ncache-control: {control}, max-age=10\nx-user: ali"
        ));
        let first = success_of(first);
        assert_eq!(field(&first, "x-user").as_deref(), Some("ali"), "{control}");
        no_result(&waiting);
        let asked = scene.answer("200\ncache-control: private\n\ntwo");
        assert!(!asked.headers.contains_key("if-none-match"), "{control}");
        assert_eq!(shown(waiting), "200 two (fwd=uri-miss)", "{control}");
        assert_eq!(scene.cache.counts().entries, 0);
    }
}
