//! Files of a folder, and nothing else.

use std::fs::{self, File};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use torsade::prelude::*;
use torsade::protocols::http::paths::DotFiles;
use torsade::protocols::http::router::BadRoute;
use torsade::protocols::http::{
    Handler, HeaderValue, Request, Routes, Site, StaticFiles, StatusCode,
};
use torsade::reactor::FollowLinks;
use torsade::reactor::testing::virtual_time_reactor;

use super::Client;

/// When every file here was changed: before the year 2000, when virtual time begins.
const CHANGED: &str = "Fri, 31 Dec 1999 00:00:00 GMT";
const CHANGED_AT: Duration = Duration::from_secs(946_598_400);

fn put(folder: &TempDir, name: &str, content: impl AsRef<[u8]>) {
    put_at(folder, name, content, UNIX_EPOCH + CHANGED_AT);
}

/// A file that says that it was changed at that time.
fn put_at(folder: &TempDir, name: &str, content: impl AsRef<[u8]>, at: SystemTime) {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().expect("it is in the folder")).expect("there is room");
    fs::write(&path, content).expect("there is room");
    let file = File::options()
        .append(true)
        .open(&path)
        .expect("it was written");
    file.set_modified(at).expect("it is ours");
}

/// A reactor whose time is long after that at which the system says that the files here were changed, which nobody
/// can set: that of virtual time's beginning is before.
fn long_after() -> Reactor {
    let reactor = virtual_time_reactor();
    let slept = sleep(&reactor, Duration::from_secs(86_400 * 365 * 100));
    reactor.run_until(slept).expect("time passes");
    reactor
}

fn asking(handler: impl Handler) -> Client {
    Client::at(&long_after(), &Site::new(handler))
}

/// A folder with the letters in `letters.txt`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("there is room");
    put(&folder, "letters.txt", "abcdefghijklmnopqrstuvwxyz");
    put(&folder, "sub/index.html", "<p>index");
    put(&folder, "sub/a b&c.html", "<p>");
    put(&folder, ".secret", "secret");
    folder
}

fn files(folder: &TempDir) -> StaticFiles {
    StaticFiles::new(folder.path())
}

/// Asks for a target with these fields; the status line, the fields in order of names, and the body.
#[track_caller]
fn ask(client: &Client, request: &str, fields: &[&str]) -> (String, Vec<String>, String) {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    client.send(format!("{request} HTTP/1.1\r\nHost: here\r\n{fields}\r\n"));
    client.turn();
    let answers = client.answers();
    let (head, body) = answers.split_once("\r\n\r\n").expect("it is answered");
    let mut lines = head.split("\r\n").map(str::to_owned);
    let status = lines.next().expect("there is a first line");
    let status = status["HTTP/1.1 ".len()..].to_owned();
    let mut fields: Vec<_> = lines.collect();
    fields.sort_unstable();
    (status, fields, body.to_owned())
}

#[track_caller]
fn status(client: &Client, request: &str) -> String {
    ask(client, request, &[]).0
}

#[test]
fn a_file_is_sent_with_what_there_is_to_say_of_it() {
    let folder = folder();
    let client = asking(files(&folder));
    let (status, fields, body) = ask(&client, "GET /letters.txt?x", &[]);
    assert_eq!((&*status, &*body), ("200 OK", "abcdefghijklmnopqrstuvwxyz"));
    let etag = fields
        .iter()
        .find(|field| field.starts_with("etag: \""))
        .expect("it has a tag");
    let modified = format!("last-modified: {CHANGED}");
    let expected = [
        "accept-ranges: bytes",
        "content-length: 26",
        "content-type: text/plain; charset=utf-8",
        etag,
        &modified,
    ];
    assert_eq!(fields, expected);
    let (status, head_fields, body) = ask(&client, "HEAD /letters.txt", &[]);
    assert_eq!((&*status, head_fields, &*body), ("200 OK", fields, ""));
}

#[test]
fn other_methods_are_refused() {
    let folder = folder();
    let client = asking(files(&folder));
    let (status, fields, _) = ask(&client, "POST /letters.txt", &["Content-Length: 0"]);
    assert_eq!(status, "405 Method Not Allowed");
    assert!(
        fields.contains(&"allow: GET, HEAD".to_owned()),
        "{fields:?}"
    );
    assert_eq!(
        ask(&client, "OPTIONS /letters.txt", &[]).0,
        "204 No Content"
    );
}

#[test]
fn a_client_that_has_it_already_is_told_so() {
    let folder = folder();
    let files = files(&folder).cache_control(HeaderValue::from_static("no-cache"));
    let client = asking(files);
    let (_, fields, _) = ask(&client, "GET /letters.txt", &[]);
    let etag = fields.iter().find_map(|field| field.strip_prefix("etag: "));
    let etag = etag.expect("it has a tag").to_owned();
    for field in [
        format!("If-None-Match: {etag}"),
        format!("If-Modified-Since: {CHANGED}"),
    ] {
        let (status, fields, body) = ask(&client, "GET /letters.txt", &[&field]);
        assert_eq!((&*status, &*body), ("304 Not Modified", ""), "{field}");
        let (tag, modified) = (format!("etag: {etag}"), format!("last-modified: {CHANGED}"));
        let expected = [
            "accept-ranges: bytes",
            "cache-control: no-cache",
            &tag,
            &modified,
        ];
        assert_eq!(fields, expected, "{field}");
    }
    let (status, ..) = ask(&client, "GET /letters.txt", &["If-Match: \"other\""]);
    assert_eq!(status, "412 Precondition Failed");
    put(&folder, "letters.txt", "abc");
    client.wait(1);
    let (status, _, body) = ask(
        &client,
        "GET /letters.txt",
        &[&format!("If-None-Match: {etag}")],
    );
    assert_eq!((&*status, &*body), ("200 OK", "abc"));
}

#[test]
fn one_part_is_sent_if_one_is_asked_for() {
    let folder = folder();
    let client = asking(files(&folder));
    let part = |fields: &[&str]| {
        let (status, fields, body) = ask(&client, "GET /letters.txt", fields);
        let range = fields
            .iter()
            .find_map(|field| field.strip_prefix("content-range: "));
        (status, range.map(str::to_owned), body)
    };
    let expected = |range: &str, body: &str| {
        (
            "206 Partial Content".to_owned(),
            Some(range.to_owned()),
            body.to_owned(),
        )
    };
    assert_eq!(part(&["Range: bytes=0-2"]), expected("bytes 0-2/26", "abc"));
    assert_eq!(
        part(&["Range: bytes=23-"]),
        expected("bytes 23-25/26", "xyz")
    );
    assert_eq!(part(&["Range: bytes=-2"]), expected("bytes 24-25/26", "yz"));
    let if_range = format!("If-Range: {CHANGED}");
    assert_eq!(
        part(&["Range: bytes=0-0", &if_range]),
        expected("bytes 0-0/26", "a")
    );
    let (status, range, _) = part(&["Range: bytes=26-"]);
    assert_eq!(status, "416 Range Not Satisfiable");
    assert_eq!(range.as_deref(), Some("bytes */26"));
    let (status, range, body) = part(&["Range: bytes=0-2", "If-Range: \"other\""]);
    assert_eq!((&*status, range, body.len()), ("200 OK", None, 26));
    let (status, _, body) = part(&["Range: bytes=0-2", &format!("If-Modified-Since: {CHANGED}")]);
    assert_eq!((&*status, &*body), ("304 Not Modified", ""));
}

#[test]
fn several_parts_are_sent_as_one_message() {
    let folder = folder();
    let content: String = (0..200_000_u32)
        .map(|at| char::from(b'a' + (at % 26) as u8))
        .collect();
    put(&folder, "large.txt", &content);
    let client = asking(files(&folder));
    let range = "Range: bytes=0-2, 1000-150000, -3";
    let (status, fields, body) = ask(&client, "GET /large.txt", &[range]);
    assert_eq!(status, "206 Partial Content");
    let find = |name: &str| fields.iter().find_map(|field| field.strip_prefix(name));
    let boundary = find("content-type: multipart/byteranges; boundary=").expect("it has parts");
    let length = find("content-length: ").expect("it is known");
    assert_eq!(length, body.len().to_string());
    let parts: Vec<_> = body.split(&format!("--{boundary}")).collect();
    let part = |first: usize, last: usize| {
        format!(
            "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Range: bytes {first}-{last}/200000\r\n\r\n{}\r\n",
            &content[first..=last]
        )
    };
    let expected = [
        String::new(),
        part(0, 2),
        part(1000, 150_000),
        part(199_997, 199_999),
        "--\r\n".to_owned(),
    ];
    assert!(parts == expected, "parts differ: {} of them", parts.len());
}

#[test]
fn a_folder_is_its_index_with_a_slash_at_its_end() -> Result<(), BadRoute> {
    let folder = folder();
    let client = asking(Routes::new().nest("/static", files(&folder))?);
    let location = |request: &str| {
        let (status, fields, _) = ask(&client, request, &[]);
        assert_eq!(status, "301 Moved Permanently", "{request}");
        let found = fields
            .iter()
            .find_map(|field| field.strip_prefix("location: "));
        found.expect("it leads somewhere").to_owned()
    };
    assert_eq!(location("GET /static/sub?a=b"), "/static/sub/?a=b");
    assert_eq!(location("GET /static"), "/static/");
    assert_eq!(location("GET /static/.//sub"), "/static/sub/");
    let (status, fields, body) = ask(&client, "GET /static/sub/", &[]);
    assert_eq!((&*status, &*body), ("200 OK", "<p>index"));
    assert!(
        fields.contains(&"content-type: text/html; charset=utf-8".to_owned()),
        "{fields:?}"
    );
    assert_eq!(self::status(&client, "GET /static/"), "404 Not Found");
    assert_eq!(
        self::status(&client, "GET /static/letters.txt/"),
        "404 Not Found"
    );
    assert_eq!(
        self::status(&client, "GET /static/letters.txt/x"),
        "404 Not Found"
    );
    let root = asking(files(&folder));
    let (_, fields, _) = ask(&root, "GET //evil.example/..//sub", &[]);
    assert!(
        !fields.iter().any(|field| field.contains("evil")),
        "{fields:?}"
    );
    put(&folder, "evil.example/index.html", "<p>");
    let (_, fields, _) = ask(&root, "GET //evil.example", &[]);
    assert!(
        fields.contains(&"location: /evil.example/".to_owned()),
        "{fields:?}"
    );
    let own = asking(files(&folder).index(["none.html", "letters.txt"]));
    assert_eq!(ask(&own, "GET /", &[]).2, "abcdefghijklmnopqrstuvwxyz");
    Ok(())
}

#[test]
fn nothing_outside_of_the_folder_is_sent_and_no_file_with_a_dot() {
    let folder = folder();
    let inside = folder.path().join("sub");
    put(&folder, "sub/.git/config", "secret");
    put(&folder, "sub/.well-known/x", "known");
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, inside.join(name)).expect("it can be made");
    };
    link("../letters.txt", "outside");
    link("..", "up");
    link("index.html", "inside");
    link("/etc/passwd", "passwd");
    let root = StaticFiles::new(&inside);
    let client = asking(root.clone());
    for (path, expected) in [
        ("/../letters.txt", "400 Bad Request"),
        ("/%2e%2e/letters.txt", "400 Bad Request"),
        ("/..%2fletters.txt", "400 Bad Request"),
        ("/x/../../letters.txt", "400 Bad Request"),
        ("/a%00", "400 Bad Request"),
        ("/outside", "404 Not Found"),
        ("/up/letters.txt", "404 Not Found"),
        ("/passwd", "404 Not Found"),
        ("/.git/config", "404 Not Found"),
        ("/inside", "200 OK"),
        ("/.well-known/x", "200 OK"),
    ] {
        assert_eq!(status(&client, &format!("GET {path}")), expected, "{path}");
    }
    let shown = asking(root.clone().dot_files(DotFiles::Show));
    assert_eq!(status(&shown, "GET /.git/config"), "200 OK");
    let anywhere = asking(root.clone().follow_links(FollowLinks::Anywhere));
    assert_eq!(status(&anywhere, "GET /up/letters.txt"), "200 OK");
    let nowhere = asking(root.follow_links(FollowLinks::Never));
    assert_eq!(status(&nowhere, "GET /inside"), "404 Not Found");
}

#[test]
fn a_listing_shows_names_as_text() {
    let folder = folder();
    put(&folder, "list/<b>\"&'.txt", "x");
    put(&folder, "list/javascript:alert(1)", "x");
    put(&folder, "list/sub/x", "x");
    put(&folder, "list/.hidden", "x");
    let client = asking(files(&folder).listing());
    let (status, fields, page) = ask(&client, "GET /list/", &[]);
    assert_eq!(status, "200 OK");
    assert!(
        fields.contains(&"content-type: text/html; charset=utf-8".to_owned()),
        "{fields:?}"
    );
    for expected in [
        "<a href=\"./%3Cb%3E%22%26%27.txt\">&lt;b&gt;&quot;&amp;&#39;.txt</a>",
        "<a href=\"./javascript%3Aalert%281%29\">",
        "<a href=\"./sub/\">sub/</a>",
        "<a href=\"../\">",
        "<h1>/list/</h1>",
        CHANGED,
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    assert!(!page.contains("hidden"), "{page}");
    assert_eq!(self::status(&client, "GET /nothing/"), "404 Not Found");
    assert_eq!(ask(&client, "GET /sub/", &[]).2, "<p>index");
}

#[test]
fn what_was_compressed_before_is_sent_to_who_takes_it() {
    let folder = folder();
    put(&folder, "letters.txt.gz", "packed");
    let client = asking(files(&folder).precompressed());
    let (_, fields, body) = ask(&client, "GET /letters.txt", &["Accept-Encoding: br, gzip"]);
    assert_eq!(body, "packed");
    for expected in [
        "content-encoding: gzip",
        "content-type: text/plain; charset=utf-8",
        "vary: accept-encoding",
    ] {
        assert!(fields.contains(&expected.to_owned()), "{fields:?}");
    }
    let packed_tag = fields
        .iter()
        .find(|field| field.starts_with("etag"))
        .cloned();
    let (_, fields, body) = ask(&client, "GET /letters.txt", &["Accept-Encoding: gzip;q=0"]);
    assert_eq!(body.len(), 26);
    assert!(
        fields.contains(&"vary: accept-encoding".to_owned()),
        "{fields:?}"
    );
    assert!(
        !fields.contains(&packed_tag.expect("it has one")),
        "another representation"
    );
    let (_, fields, body) = ask(&client, "GET /sub/", &["Accept-Encoding: gzip"]);
    assert_eq!(body, "<p>index");
    assert!(
        !fields.contains(&"content-encoding: gzip".to_owned()),
        "{fields:?}"
    );
}

#[test]
fn types_and_the_page_for_what_is_missing_can_be_given() {
    let folder = folder();
    put(&folder, "a.UNUSUAL", "x");
    let files = files(&folder)
        .media_type("unusual", HeaderValue::from_static("application/unusual"))
        .not_found(|request: Request| (StatusCode::NOT_FOUND, format!("no {}", request.path())));
    let client = asking(files);
    let (_, fields, _) = ask(&client, "GET /a.UNUSUAL", &[]);
    assert!(
        fields.contains(&"content-type: application/unusual".to_owned()),
        "{fields:?}"
    );
    for path in ["/missing", "/.secret", "/sub/missing/"] {
        let (status, _, body) = ask(&client, &format!("GET {path}"), &[]);
        assert_eq!((&*status, body), ("404 Not Found", format!("no {path}")));
    }
}

/// The tag and the body of `/letters.txt`.
#[track_caller]
fn letters(client: &Client) -> (String, String) {
    let (status, fields, body) = ask(client, "GET /letters.txt", &[]);
    assert_eq!(status, "200 OK");
    let tag = fields.into_iter().find(|field| field.starts_with("etag: "));
    (tag.expect("it has a tag"), body)
}

#[test]
fn a_file_that_is_changed_is_noticed_at_once_where_the_system_is_asked_each_time() {
    let ways: [fn(StaticFiles) -> StaticFiles; 3] = [
        |files| files.trust_for(Duration::ZERO),
        |files| files.keep_in_memory(0),
        // It does not fit.
        |files| files.keep_in_memory(1000),
    ];
    for configure in ways {
        let folder = folder();
        let client = asking(configure(files(&folder)));
        let first = letters(&client);
        assert_eq!(letters(&client), first);
        put(&folder, "letters.txt", "ABC");
        let second = letters(&client);
        assert_eq!(second.1, "ABC", "written in its place");
        put(&folder, "other.txt", "abcdefghijklmnopqrstuvwxyz");
        let path = |name: &str| folder.path().join(name);
        fs::rename(path("other.txt"), path("letters.txt")).expect("it is ours");
        assert_eq!(letters(&client).1, first.1, "replaced");
        fs::remove_file(path("letters.txt")).expect("it is there");
        assert_eq!(status(&client, "GET /letters.txt"), "404 Not Found");
        let link = std::os::unix::fs::symlink("/etc/passwd", path("letters.txt"));
        link.expect("it can be made");
        assert_eq!(status(&client, "GET /letters.txt"), "404 Not Found");
    }
}

#[test]
fn a_file_in_memory_is_all_old_or_all_new_and_new_after_a_second() {
    let changes: [fn(&TempDir); 3] = [
        // In its place, shorter.
        |folder| put(folder, "letters.txt", "ABC"),
        |folder| {
            put(folder, "new.txt", "AB");
            let path = |name: &str| folder.path().join(name);
            fs::rename(path("new.txt"), path("letters.txt")).expect("it is ours");
        },
        |folder| fs::remove_file(folder.path().join("letters.txt")).expect("it is there"),
    ];
    for (change, new) in changes.into_iter().zip([Some("ABC"), Some("AB"), None]) {
        let folder = folder();
        let client = asking(files(&folder));
        let old = letters(&client);
        assert_eq!(letters(&client), old);
        let if_range = format!("If-Range: {}", &old.0["etag: ".len()..]);
        let part = || {
            ask(
                &client,
                "GET /letters.txt",
                &["Range: bytes=0-1", &if_range],
            )
        };
        let whole = || ask(&client, "GET /letters.txt", &[]);
        change(&folder);
        assert_eq!(letters(&client), old);
        let (status, _, body) = part();
        assert_eq!((&*status, &*body), ("206 Partial Content", "ab"));
        client.wait(1);
        let Some(new) = new else {
            assert_eq!(whole().0, "404 Not Found");
            continue;
        };
        for (status, fields, body) in [part(), whole()] {
            assert_eq!((&*status, &*body), ("200 OK", new));
            assert!(fields.contains(&format!("content-length: {}", new.len())));
        }
    }
}

#[test]
fn a_file_that_was_changed_a_moment_ago_is_not_kept_in_memory() {
    let folder = folder();
    let client = asking(files(&folder));
    // A second ago: too short for a change to show, in some file systems.
    let changed_at = client.reactor.system_time() - Duration::from_secs(1);
    let write = |content: &str| put_at(&folder, "letters.txt", content, changed_at);
    write("abc");
    for _ in 0..3 {
        assert_eq!(letters(&client).1, "abc");
    }
    write("ABC");
    assert_eq!(letters(&client).1, "ABC");
    client.wait(2);
    assert_eq!(letters(&client).1, "ABC");
    write("uvwxyz");
    assert_eq!(letters(&client).1, "ABC", "it is in memory now");
    client.wait(1);
    assert_eq!(letters(&client).1, "uvwxyz");
}

#[test]
fn a_file_has_its_type_also_when_the_clock_is_put_back() {
    let folder = folder();
    let files = files(&folder).trust_for(Duration::ZERO);
    let [before, after] = [(), ()].map(|()| Client::at(&long_after(), &Site::new(files.clone())));
    after.wait(10);
    let between = before.reactor.system_time() + Duration::from_secs(5);
    put_at(&folder, "letters.txt", "abc", between);
    for client in [&after, &after, &before, &after] {
        let (_, fields, body) = ask(client, "GET /letters.txt", &[]);
        assert_eq!(body, "abc");
        let media_type = "content-type: text/plain; charset=utf-8".to_owned();
        assert!(fields.contains(&media_type), "{fields:?}");
    }
}

#[test]
fn a_file_in_memory_is_sent_to_every_client_as_it_takes_it() -> Result<(), BadRoute> {
    let folder = folder();
    let (trigger, deferred) = Deferred::<&'static str>::new();
    let late = std::cell::RefCell::new(Some(deferred));
    let routes = Routes::new()
        .get("/late", move |_: Request| {
            late.take().expect("it is asked for once")
        })?
        .nest("/", files(&folder))?;
    let site = Site::new(routes);
    let reactor = long_after();
    let client = Client::at(&reactor, &site);
    assert_eq!(letters(&client), letters(&client));
    // Behind one that comes later.
    client.get("/late");
    client.get("/letters.txt");
    client.turn();
    assert_eq!(client.answers(), "");
    trigger.callback("late");
    client.turn();
    let answers = client.answers();
    let (first, second) = answers.split_once("late").expect("in order");
    assert!(first.contains("content-length: 4\r\n"), "{answers}");
    assert!(
        second.ends_with("\r\n\r\nabcdefghijklmnopqrstuvwxyz"),
        "{answers}"
    );
    let lines = |request: &str| {
        let client = Client::at(&reactor, &site);
        client.send(request);
        client.turn();
        let answers = client.answers();
        let mut lines: Vec<_> = answers.split("\r\n").map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let usual = lines("GET /letters.txt HTTP/1.1\r\nHost: here\r\n\r\n");
    for (request, more) in [
        (
            "GET /letters.txt HTTP/1.1\r\nHost: here\r\nConnection: close",
            "close",
        ),
        ("GET /letters.txt HTTP/1.0", "close"),
        (
            "GET /letters.txt HTTP/1.0\r\nConnection: keep-alive",
            "keep-alive",
        ),
    ] {
        let mut expected = usual.clone();
        expected.push(format!("connection: {more}"));
        expected.sort_unstable();
        assert_eq!(lines(&format!("{request}\r\n\r\n")), expected, "{request}");
    }
    Ok(())
}

#[test]
fn what_is_asked_for_again_is_answered_as_the_first_time() -> Result<(), BadRoute> {
    let folder = folder();
    put(&folder, "letters", "without an ending");
    let etag = letters(&asking(files(&folder))).0;
    let has_it = format!("If-None-Match: {}", &etag["etag: ".len()..]);
    let asked: [(&str, &[&str]); 14] = [
        ("GET /letters.txt", &[]),
        ("GET /letters.txt", &["Range: bytes=0-1, 5-6, 25-"]),
        ("GET /letters.txt", &["Range: bytes=26-"]),
        ("HEAD /letters.txt", &[]),
        ("POST /letters.txt", &[]),
        ("GET /letters.txt?query", &["Range: bytes=2-4"]),
        ("GET /letters.txt", &[&has_it]),
        ("GET /letters%2Etxt", &[]),
        ("GET //./letters.txt", &[]),
        ("GET /letters.txt/", &[]),
        ("GET /letters", &[]),
        ("GET /sub", &[]),
        ("GET /sub/", &[]),
        ("GET /.secret", &[]),
    ];
    let fresh = |prefix: &str| {
        let routes = Routes::new().nest(prefix, files(&folder));
        routes.map(asking)
    };
    // One for all, below two prefixes.
    let shared = files(&folder);
    let both = Routes::new()
        .nest("/one", shared.clone())?
        .nest("/two/more", shared)?;
    let again = asking(both);
    for round in 0..3 {
        for prefix in ["/one", "/two/more"] {
            for (request, fields) in asked {
                let request = request.replacen(' ', &format!(" {prefix}"), 1);
                let first = ask(&fresh(prefix)?, &request, fields);
                assert_eq!(ask(&again, &request, fields), first, "{request}, {round}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_file_that_is_trusted_is_looked_at_again_in_time() {
    let folder = folder();
    let files = files(&folder).trust_for(Duration::from_secs(5));
    let client = asking(files.clone());
    let first = letters(&client);
    assert_eq!(letters(&client), first);
    put(&folder, "new.txt", "new");
    let path = |name: &str| folder.path().join(name);
    fs::rename(path("new.txt"), path("letters.txt")).expect("it is ours");
    client.wait(4);
    assert_eq!(letters(&client), first);
    client.wait(1);
    assert_eq!(letters(&client).1, "new");
    let hidden = path("letters.txt.away");
    fs::rename(path("letters.txt"), hidden).expect("it is ours");
    let other_rules = asking(files.cache_control(HeaderValue::from_static("no-store")));
    assert_eq!(status(&other_rules, "GET /letters.txt"), "404 Not Found");
}

/// Which files below a folder this process has open.
#[cfg(target_os = "linux")]
fn open_below(folder: &TempDir) -> usize {
    let descriptors = fs::read_dir("/proc/self/fd").expect("Linux has it");
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets
        .filter(|target| target.starts_with(folder.path()))
        .count()
}

#[cfg(target_os = "linux")]
#[test]
fn so_many_files_stay_open_and_none_that_nobody_asks_for() {
    let folder = folder();
    for name in ["a", "b", "c"] {
        put(&folder, name, name);
    }
    let client = asking(files(&folder).keep_open(2));
    for path in ["/a", "/b", "/c", "/c"] {
        assert_eq!(status(&client, &format!("GET {path}")), "200 OK");
    }
    assert_eq!(open_below(&folder), 2);
    client.wait(15);
    assert_eq!(status(&client, "GET /c"), "200 OK");
    client.wait(6);
    assert_eq!(open_below(&folder), 1, "the other one was not asked for");
    client.wait(20);
    assert_eq!(open_below(&folder), 0);
    let none = asking(files(&folder).keep_open(0));
    assert_eq!(status(&none, "GET /a"), "200 OK");
    assert_eq!(open_below(&folder), 0);
}

#[test]
fn files_are_opened_on_threads_if_that_is_asked_for() {
    let folder = folder();
    let reactor = virtual_time_reactor();
    let site = Site::new(files(&folder).open_on_threads());
    let client = Client::at(&reactor, &site);
    client.get("/letters.txt");
    client.get("/missing");
    client.wait(1);
    let answers = client.answers();
    assert!(answers.starts_with("HTTP/1.1 200 OK\r\n"), "{answers}");
    assert!(
        answers.contains("wxyzHTTP/1.1 404 Not Found\r\n"),
        "{answers}"
    );
}

#[test]
fn a_file_that_we_may_not_read_is_forbidden() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let path = folder.path().join("letters.txt");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("it is ours");
    let client = asking(files(&folder));
    let may_read = File::open(&path).is_ok();
    let expected = if may_read { "200 OK" } else { "403 Forbidden" };
    assert_eq!(status(&client, "GET /letters.txt"), expected);
}

#[test]
fn a_path_may_leave_out_an_extension_that_is_ignored() {
    let folder = folder();
    put(&folder, "about.html", "<p>about");
    put(&folder, "about.txt", "about");
    put(&folder, "letters.html", "<p>letters");
    put(&folder, "letters", "no extension");
    put(&folder, "deep.html/x", "of a folder");
    put(&folder, ".hidden.html", "secret");
    let client = asking(files(&folder).ignore_extensions(["html", "txt"]));
    let page = |target: &str| {
        let (status, fields, body) = ask(&client, &format!("GET {target}"), &[]);
        let is_html = fields
            .iter()
            .any(|it| it.starts_with("content-type: text/html"));
        (status, is_html, body)
    };
    let ok = |is_html, body: &str| ("200 OK".to_owned(), is_html, body.to_owned());
    assert_eq!(page("/about"), ok(true, "<p>about"));
    assert_eq!(page("/about.txt"), ok(false, "about"));
    assert_eq!(page("/letters"), ok(false, "no extension"));
    assert_eq!(page("/sub").0, "301 Moved Permanently");
    for absent in ["/deep", "/about/", "/.hidden", "/nothing"] {
        assert_eq!(page(absent).0, "404 Not Found", "{absent}");
    }
}
