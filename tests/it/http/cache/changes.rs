//! What changes a target ends what is stored of it: RFC 9111 §4.4.

use super::*;
use torsade::reactor::testing::failure_of;

const ANSWER: &str = "200\ncache-control: max-age=60\n\none";

fn filled() -> Scene {
    let scene = Scene::shared();
    for path in ["/a", "/b", "/c"] {
        scene.get(&format!("GET {path}"), ANSWER);
    }
    scene
}

/// What is stored is what is left of `abc`.
#[track_caller]
fn check_left(scene: &Scene, expected: &str) {
    let mut left = String::new();
    for name in ["a", "b", "c"] {
        let request = format!("GET /{name}\ncache-control: only-if-cached");
        let response = success_of(scene.ask(&request));
        if response.status() == 200 {
            left.push_str(name);
        }
    }
    assert_eq!(left, expected);
}

#[test]
fn rfc9111_4_4_a_change_ends_what_is_stored() {
    for (method, answer, left) in [
        ("POST", "200", "bc"),
        ("PUT", "204", "bc"),
        ("DELETE", "204", "bc"),
        ("PATCH", "303\nlocation: /b", "c"),
        (
            "POST",
            "201\nlocation: http://origin/b\ncontent-location: /c",
            "",
        ),
        ("POST", "201\nlocation: http://elsewhere/b", "bc"),
        ("POST", "404", "abc"),
        ("POST", "500", "abc"),
        ("OPTIONS", "200", "abc"),
    ] {
        let scene = filled();
        scene.get(&format!("{method} /a"), answer);
        check_left(&scene, left);
    }
}

#[test]
fn a_change_of_which_nobody_knows_ends_what_is_stored() {
    let scene = filled();
    let response = scene.ask("POST /a");
    scene.next().trigger.errback(Failure::message("lost"));
    assert_eq!(failure_of(response).to_string(), "lost");
    check_left(&scene, "bc");
}

#[test]
fn what_was_asked_before_a_change_is_not_stored_after_it() {
    let scene = Scene::shared();
    let before = scene.ask("GET /a");
    let before_asked = scene.next();
    scene.get("POST /a", "200");
    // It does not wait for what was asked before.
    let after = scene.ask("GET /a");
    assert_eq!(scene.unanswered(), 1);
    let mut response = Response::new(Body::from("old"));
    *response.headers_mut() = scene.headers("cache-control: max-age=60");
    before_asked.trigger.callback(response);
    assert_eq!(shown(before), "200 old (fwd=uri-miss)");
    scene.answer("200\ncache-control: max-age=60\n\nnew");
    assert_eq!(shown(after), "200 new (fwd=uri-miss; stored)");
    assert_eq!(scene.hit("GET /a"), "200 new (hit; ttl=60)");
}

#[test]
fn a_body_that_comes_over_a_change_is_not_stored() {
    let scene = Scene::shared();
    let response = scene.ask("GET /a");
    let (sender, body) = Body::channel();
    scene.answer_with("200\ncache-control: max-age=60", body);
    let read = success_of(response).into_body().read_text(100);
    sender.write("ol").expect("it is read");
    scene.get("POST /a", "200");
    sender.write("d").expect("it is read");
    sender.finish();
    assert_eq!(success_of(read), "old");
    assert_eq!(scene.cache.counts().entries, 0);
    assert_eq!(scene.cache.counts().bytes, 0);
}

#[test]
fn a_program_may_let_go_what_is_stored() {
    let scene = filled();
    scene
        .cache
        .invalidate(&"http://origin/b".parse().expect("a URI"));
    check_left(&scene, "ac");
    scene.cache.clear();
    check_left(&scene, "");
}
