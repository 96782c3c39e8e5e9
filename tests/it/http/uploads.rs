//! Forms with files.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use torsade::prelude::*;
use torsade::protocols::http::multipart::MultipartLimits;
use torsade::protocols::http::{FormPiece, Request, Upload, UploadLimits};
use torsade::reactor::testing::for_every_chunking;

use super::{Client, text};

const BODY: &str = "--xyz\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nA day\r\n\
    --xyz\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"../a.png\"\r\n\
    Content-Type: image/png\r\n\r\n0123456789\r\n--xyz--\r\n";

fn head(media_type: &str, length: usize) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n\r\n"
    )
}

const FORM: &str = "multipart/form-data; boundary=xyz";

fn post(client: &Client, body: &str) -> String {
    client.send(head(FORM, body.len()));
    client.send(body);
    client.answers()
}

/// Keeps uploads in memory, or in that folder; says what there was.
fn keeping(limits: UploadLimits) -> Client {
    Client::asking(move |mut request: Request| {
        request.read_upload(limits.clone()).map(|upload: Upload| {
            let files = upload.files.iter().map(|file| {
                let kept = match (file.as_bytes(), file.path()) {
                    (Some(bytes), None) => String::from_utf8_lossy(bytes).into_owned(),
                    (None, Some(path)) => std::fs::read_to_string(path).expect("it is there"),
                    other => panic!("one of them: {other:?}"),
                };
                let name = file.head.filename.as_deref().unwrap_or_default();
                format!("{} {name} {} {kept}", file.head.name, file.length())
            });
            let files: Vec<_> = files.collect();
            format!("{} | {}", upload.fields, files.join(", "))
        })
    })
}

const SEEN: &str = "title=A+day | photo ../a.png 10 0123456789";

#[test]
fn fields_and_files_are_kept_in_every_chunking() {
    let wire = [head(FORM, BODY.len()), BODY.to_owned()].concat();
    for_every_chunking(wire.as_bytes(), |chunks| {
        let client = keeping(UploadLimits::default());
        for chunk in chunks {
            client.send(chunk);
        }
        assert_eq!(client.answers(), text(SEEN));
    });
}

#[test]
fn large_files_go_to_a_folder_and_are_removed_again() {
    let folder = tempfile::tempdir().expect("there is room");
    let count = || {
        std::fs::read_dir(folder.path())
            .expect("it is there")
            .count()
    };
    let limits = UploadLimits {
        memory: 4,
        folder: Some(folder.path().to_owned()),
        ..UploadLimits::default()
    };
    let client = keeping(limits.clone());
    assert_eq!(post(&client, BODY), text(SEEN));
    assert_eq!(count(), 0);
    // One that breaks off leaves nothing either.
    client.send(head(FORM, BODY.len()));
    client.send(&BODY[..BODY.len() - 12]);
    assert_eq!(count(), 1);
    client.stream.end();
    client.turn();
    assert_eq!(count(), 0);
}

#[test]
fn a_file_is_kept_under_a_name_of_ours() {
    let folder = tempfile::tempdir().expect("there is room");
    for memory in [4, 100] {
        let path: PathBuf = folder.path().join(format!("kept-{memory}"));
        let limits = UploadLimits {
            memory,
            folder: Some(folder.path().to_owned()),
            ..UploadLimits::default()
        };
        let place = path.clone();
        let client = Client::asking(move |mut request: Request| {
            let place = place.clone();
            request
                .read_upload(limits.clone())
                .add_callback(move |mut upload| {
                    let file = upload.files.remove(0);
                    file.persist(place)?;
                    Ok("kept")
                })
        });
        assert_eq!(post(&client, BODY), text("kept"));
        assert_eq!(
            std::fs::read_to_string(&path).expect("it is there"),
            "0123456789"
        );
        // It is there already, and is not overwritten.
        assert!(post(&client, BODY).starts_with("HTTP/1.1 500 "));
    }
    assert_eq!(
        std::fs::read_dir(folder.path())
            .expect("it is there")
            .count(),
        2
    );
}

#[test]
fn what_is_too_much_or_no_form_is_the_fault_of_the_client() {
    let check = |limits, media_type, body: &str, expected| {
        let client = keeping(limits);
        client.send(head(media_type, body.len()));
        client.send(body);
        let answer = client.answers();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected} ")),
            "{answer}"
        );
    };
    let limits = UploadLimits::default();
    check(limits.clone(), "text/plain", "x", 415);
    check(limits.clone(), "multipart/form-data", "x", 415);
    check(limits.clone(), FORM, "--xyz\r\n\r\n", 400);
    check(limits.clone(), FORM, &BODY[..60], 400);
    check(
        UploadLimits {
            memory: 9,
            ..limits.clone()
        },
        FORM,
        BODY,
        413,
    );
    check(
        UploadLimits {
            fields: 9,
            ..limits.clone()
        },
        FORM,
        BODY,
        413,
    );
    let parts = MultipartLimits {
        parts_max: 1,
        ..MultipartLimits::default()
    };
    check(UploadLimits { parts, ..limits }, FORM, BODY, 400);
}

#[test]
fn the_next_piece_waits_for_the_one_before() {
    let (seen, triggers) = (
        Rc::new(RefCell::new(Vec::new())),
        Rc::new(RefCell::new(Vec::new())),
    );
    let (log, waiting) = (Rc::clone(&seen), Rc::clone(&triggers));
    let client = Client::asking(move |mut request: Request| {
        let form = request
            .multipart(MultipartLimits::default())
            .expect("it is one");
        let (log, waiting) = (Rc::clone(&log), Rc::clone(&waiting));
        let taken = form.for_each(move |piece| {
            log.borrow_mut().push(match piece {
                FormPiece::Begin(head) => head.name,
                FormPiece::Data(data) => String::from_utf8_lossy(&data).into_owned(),
                FormPiece::End => "end".to_owned(),
            });
            let (trigger, deferred) = Deferred::<()>::new();
            waiting.borrow_mut().push(trigger);
            deferred
        });
        taken.map(|()| "taken")
    });
    let expected = ["title", "A day", "end", "photo", "0123456789", "end"];
    client.send(head(FORM, BODY.len()));
    client.send(BODY);
    for count in 1..=expected.len() {
        assert_eq!(*seen.borrow(), expected[..count]);
        assert_eq!(client.answers(), "");
        let trigger = triggers.borrow_mut().pop();
        trigger.expect("it waits").callback(());
    }
    assert_eq!(client.answers(), text("taken"));
}
