//! Bodies go to the client while they come, and are stored when they are whole.

use super::*;
use torsade::protocols::http::{BodyError, BodySender, Bytes};
use torsade::reactor::testing::failure_of;

const FRESH: &str = "200\ncache-control: max-age=60";

/// The body of a response to this, which the origin sends in time.
fn begun(scene: &Scene) -> (BodySender, Body) {
    let response = scene.ask("GET /");
    let (sender, body) = Body::channel();
    scene.answer_with(FRESH, body);
    (sender, success_of(response).into_body())
}

/// Takes it as it comes.
struct Taking {
    taken: Rc<RefCell<Vec<u8>>>,
    end: Deferred<HeaderMap>,
}

fn take(body: Body) -> Taking {
    let taken = Rc::<RefCell<Vec<u8>>>::default();
    let into = Rc::clone(&taken);
    let end = body.for_each(move |piece| into.borrow_mut().extend_from_slice(&piece));
    Taking { taken, end }
}

impl Taking {
    fn text(&self) -> String {
        String::from_utf8(self.taken.borrow().clone()).expect("it is text")
    }

    fn count(&self) -> usize {
        self.taken.borrow().len()
    }
}

#[test]
fn a_body_goes_to_the_client_while_it_is_stored() {
    let scene = Scene::shared();
    let (sender, body) = begun(&scene);
    let taking = take(body);
    sender.write("one ").expect("it is read");
    assert_eq!(taking.text(), "one ");
    assert_eq!(scene.cache.counts().entries, 0);
    sender.write("two").expect("it is read");
    assert_eq!(taking.text(), "one two");
    no_result(&taking.end);
    sender.finish();
    success_of(taking.end);
    assert_eq!(scene.hit("GET /"), "200 one two (hit; ttl=60)");
}

#[test]
fn who_comes_later_gets_it_from_its_beginning() {
    let scene = Scene::shared();
    let (sender, first) = begun(&scene);
    let first = take(first);
    sender.write("one ").expect("it is read");
    let second = success_of(scene.ask("GET /"));
    assert_eq!(done(&second), "hit; ttl=60");
    let second = take(second.into_body());
    assert_eq!(second.text(), "one ");
    sender.write("two").expect("it is read");
    assert_eq!([first.text(), second.text()], ["one two", "one two"]);
    // Its head is told without it.
    assert_eq!(success_of(scene.ask("HEAD /")).status(), 200);
    sender.finish();
    success_of(first.end);
    success_of(second.end);
}

#[test]
fn rfc9111_3_3_what_is_broken_off_is_not_stored() {
    let scene = Scene::shared();
    let (sender, body) = begun(&scene);
    let second = success_of(scene.ask("GET /")).into_body();
    sender.write("one ").expect("it is read");
    drop(sender);
    for body in [body, second] {
        let failure = failure_of(body.read(100));
        assert_eq!(failure.downcast_ref(), Some(&BodyError::Abandoned));
    }
    assert_eq!(scene.cache.counts().entries, 0);
    assert_eq!(scene.cache.counts().bytes, 0);
}

#[test]
fn what_is_shorter_or_longer_than_it_says_is_not_stored() {
    for length in [2, 4] {
        let scene = Scene::shared();
        let head = format!("{FRESH}\ncontent-length: {length}");
        let response = scene.ask("GET /");
        scene.answer_with(&head, Body::from("one"));
        assert_eq!(success_of(response).status(), 200);
        let response = scene.ask("GET /");
        let (sender, body) = Body::channel();
        scene.answer_with(&head, body);
        sender.write("one").expect("it is read");
        sender.finish();
        drop(response);
        assert_eq!(scene.cache.counts().entries, 0);
        assert_eq!(scene.cache.counts().bytes, 0);
    }
}

#[test]
fn a_client_that_goes_away_ends_what_nobody_else_takes() {
    let scene = Scene::shared();
    let (sender, body) = begun(&scene);
    let second = success_of(scene.ask("GET /")).into_body();
    sender.write("one").expect("it is read");
    drop(body);
    assert!(sender.is_read(), "somebody else takes it");
    drop(second);
    assert!(!sender.is_read(), "nobody knows how much is left");
    assert_eq!(scene.cache.counts().under_way, 0);
    assert_eq!(scene.cache.counts().bytes, 0);
}

#[test]
fn little_that_is_left_is_read_and_stored() {
    let limits = CacheLimits {
        unwanted: 4,
        ..CacheLimits::default()
    };
    for (first, is_read) in [("12345", false), ("123456", true)] {
        let scene = Scene::with_limits(limits);
        let response = scene.ask("GET /");
        let (sender, body) = Body::sized_channel(10);
        scene.answer_with(FRESH, body);
        sender.write(first).expect("it is read");
        drop(response);
        assert_eq!(sender.is_read(), is_read, "{first}");
        if is_read {
            sender.write("7890").expect("it is read");
            sender.finish();
            assert_eq!(scene.hit("GET /"), "200 1234567890 (hit; ttl=60)");
        }
    }
}

#[test]
fn a_client_that_has_it_already_does_not_keep_others_from_getting_it() {
    let scene = Scene::shared();
    scene.get(
        "GET /",
        "200\ncache-control: max-age=10\netag: \"1\"\n\none",
    );
    scene.pass(15);
    let response = scene.ask("GET /\nif-none-match: \"2\"");
    let (sender, body) = Body::channel();
    scene.answer_with("200\ncache-control: max-age=10\netag: \"2\"", body);
    assert_eq!(success_of(response).status(), 304);
    sender.write("two").expect("it is read");
    sender.finish();
    assert_eq!(scene.hit("GET /"), "200 two (hit; ttl=10)");
}

#[test]
fn what_becomes_too_large_is_passed_on_at_the_pace_of_the_slowest() {
    let limits = CacheLimits {
        entry: 100_000,
        ..CacheLimits::default()
    };
    let scene = Scene::with_limits(limits);
    let (sender, first) = begun(&scene);
    let first = take(first);
    let second = success_of(scene.ask("GET /")).into_body();
    for _ in 0..10 {
        sender.write(vec![b'x'; 20_000]).expect("it is read");
    }
    // The second takes nothing: what it has room for, and what was kept.
    assert!(sender.is_full());
    let count = first.count();
    assert!((100_000..=140_000).contains(&count), "{count}");
    assert!(scene.cache.counts().bytes <= 100_000);
    // Who comes now asks for itself.
    let alone = scene.ask("GET /");
    no_result(&alone);
    assert_eq!(scene.unanswered(), 1);
    let second = take(second);
    assert_eq!([first.count(), second.count()], [200_000; 2]);
    assert_eq!(scene.cache.counts().bytes, 0);
    sender.write("end").expect("it is read");
    sender.finish();
    success_of(first.end);
    success_of(second.end);
    assert_eq!(scene.cache.counts().entries, 0);
}

#[test]
fn the_slowest_may_go() {
    let limits = CacheLimits {
        entry: 10_000,
        ..CacheLimits::default()
    };
    let scene = Scene::with_limits(limits);
    let (sender, first) = begun(&scene);
    let first = take(first);
    let second = success_of(scene.ask("GET /")).into_body();
    for _ in 0..10 {
        sender.write(vec![b'x'; 20_000]).expect("it is read");
    }
    assert!(first.count() < 200_000);
    drop(second);
    assert_eq!(first.count(), 200_000);
}

#[test]
fn what_says_that_it_is_too_large_is_not_held() {
    let limits = CacheLimits {
        entry: 10_000,
        ..CacheLimits::default()
    };
    let scene = Scene::with_limits(limits);
    let response = scene.ask("GET /");
    let (sender, body) = Body::sized_channel(20_000);
    scene.answer_with(FRESH, body);
    let response = success_of(response);
    assert_eq!(done(&response), "fwd=uri-miss");
    sender.write(vec![0; 20_000]).expect("it is read");
    assert_eq!(scene.cache.counts().bytes, 0);
}

#[test]
fn all_bodies_that_come_and_that_are_stored_stay_within_the_limit() {
    let limits = CacheLimits {
        bytes: 200_000,
        entry: 100_000,
        ..CacheLimits::default()
    };
    let scene = Scene::with_limits(limits);
    scene.get("GET /stored", &format!("{FRESH}\n\n{}", "x".repeat(50_000)));
    let mut coming = Vec::new();
    for number in 0..10 {
        let response = scene.ask(&format!("GET /{number}"));
        let (sender, body) = Body::channel();
        scene.answer_with(FRESH, body);
        let body = success_of(response).into_body();
        for _ in 0..4 {
            sender.write(vec![b'y'; 15_000]).expect("it is read");
        }
        let used = scene.cache.counts().bytes;
        // What is not kept any more may hold a piece.
        assert!(used <= 200_000 + (number + 1) * 16_000, "{used}");
        coming.push((sender, body));
    }
    assert_eq!(scene.cache.counts().evicted, 1, "the one that was stored");
    for (sender, body) in coming {
        sender.finish();
        assert_eq!(success_of(body.read(100_000)).len(), 60_000);
    }
    let counts = scene.cache.counts();
    assert!(counts.bytes <= 200_000 && counts.entries > 0, "{counts:?}");
    assert_eq!(counts.under_way, 0);
}

#[test]
fn what_was_longest_out_of_use_makes_room() {
    let limits = CacheLimits {
        entries: 2,
        ..CacheLimits::default()
    };
    let scene = Scene::with_limits(limits);
    let answer = format!("{FRESH}\n\none");
    scene.get("GET /a", &answer);
    scene.get("GET /b", &answer);
    scene.hit("GET /a");
    scene.get("GET /c", &answer);
    assert_eq!(scene.cache.counts().entries, 2);
    assert_eq!(scene.cache.counts().evicted, 1);
    scene.hit("GET /a");
    scene.hit("GET /c");
    no_result(&scene.ask("GET /b"));
}

#[test]
fn a_target_has_so_many_variants() {
    let limits = CacheLimits {
        variants: 3,
        ..CacheLimits::default()
    };
    let scene = Scene::with_limits(limits);
    for number in 0..20 {
        let request = format!("GET /\naccept: {number}");
        scene.get(&request, &format!("{FRESH}\nvary: accept\n\n{number}"));
    }
    assert_eq!(scene.cache.counts().entries, 3);
    assert_eq!(scene.hit("GET /\naccept: 19"), "200 19 (hit; ttl=60)");
}

#[test]
fn a_cache_that_is_let_go_lets_what_comes_go_through() {
    let mut scene = Scene::shared();
    let (sender, body) = begun(&scene);
    sender.write("one ").expect("it is read");
    scene.cache = Cache::new(&scene.reactor, CacheKind::Private);
    sender.write("two").expect("it is read");
    sender.finish();
    assert_eq!(success_of(body.read(100)), "one two");
}

#[test]
fn trailers_go_along() {
    let scene = Scene::shared();
    let (sender, body) = begun(&scene);
    let walked = body.for_each(|_| ());
    sender.write("one").expect("it is read");
    sender.finish_with_trailers(scene.headers("x-sum: 1"));
    assert_eq!(success_of(walked)["x-sum"], "1");
}

#[test]
fn the_owner_of_a_body_may_use_the_cache_when_it_is_dropped() {
    thread_local!(static CACHE: RefCell<Option<Cache>> = const { RefCell::new(None) });
    struct Owner(&'static str);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }
    impl Drop for Owner {
        fn drop(&mut self) {
            let cache = CACHE.with_borrow(Clone::clone);
            cache.expect("the test has set it").clear();
        }
    }
    let scene = Scene::shared();
    CACHE.set(Some(scene.cache.clone()));
    let owned = |text| Bytes::from_owner(Owner(text));
    let whole = scene.ask("GET /a");
    scene.answer_with("200\ncache-control: max-age=9", Body::from(owned("whole")));
    assert_eq!(
        success_of(whole).into_body().as_bytes(),
        Some(&b"whole"[..])
    );
    let (sender, body) = Body::channel();
    let piece = scene.ask("GET /b");
    scene.answer_with("200\ncache-control: max-age=9", body);
    let taking = take(success_of(piece).into_body());
    let written = sender.write(owned("piece"));
    written.expect("somebody takes it");
    sender.finish();
    assert_eq!(taking.text(), "piece");
    scene.cache.clear();
    CACHE.set(None);
    assert_eq!(scene.cache.counts().entries, 0);
}
