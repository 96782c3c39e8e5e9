//! Forms with files, from the client to our own server.

use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::http::{Body, FormData, Request, Response, Upload, UploadLimits, header};
use torsade::reactor::testing::{no_result, success_of, virtual_time_reactor};

use super::client_of;

/// Says what came.
fn describe(mut request: Request) -> Deferred<String> {
    let length = request
        .header_text("content-length")
        .unwrap_or("chunked")
        .to_owned();
    let limits = UploadLimits {
        memory: 1 << 20,
        ..UploadLimits::default()
    };
    request.read_upload(limits).map(move |upload: Upload| {
        let mut text = length;
        for (name, value) in upload.fields.iter() {
            text.push_str(&format!("; {name}={value}"));
        }
        for file in &upload.files {
            let head = &file.head;
            let content = file.as_bytes().map(String::from_utf8_lossy);
            text.push_str(&format!(
                "; {}: {} {} {}",
                head.name,
                head.filename.as_deref().unwrap_or("-"),
                head.content_type.as_deref().unwrap_or("-"),
                content.unwrap_or_default()
            ));
        }
        text
    })
}

fn text(reactor: &Reactor, answer: Deferred<Response>) -> String {
    let text = answer.add_callback(|response| response.into_body().read_text(10_000));
    reactor.run_until(text).expect("it is answered")
}

fn form() -> FormData {
    FormData::new()
        .boundary(7)
        .text("title", "the sea")
        .text("empty", "")
        .file("photo", "a \"b\".txt", "text/plain", "waves")
}

#[test]
fn a_form_in_memory_has_a_length_and_can_be_sent_again() {
    let (content_type, body) = form().into_parts();
    let boundary = format!("torsade-{:032x}", 7);
    assert_eq!(
        content_type,
        format!("multipart/form-data; boundary={boundary}").as_str()
    );
    let expected = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nthe sea\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"empty\"\r\n\r\n\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"photo\"; filename=\"a %22b%22.txt\"\r\n\
         Content-Type: text/plain\r\n\r\nwaves\r\n--{boundary}--\r\n"
    );
    assert_eq!(
        body.as_bytes().map(String::from_utf8_lossy).as_deref(),
        Some(&*expected)
    );
}

#[test]
fn our_server_reads_what_our_client_sends() {
    let reactor = virtual_time_reactor();
    let client = client_of(&reactor, describe);
    let answer = client.request(form().post("http://a/").expect("a URL"));
    let length = success_of(form().into_parts().1.read(10_000)).len();
    assert_eq!(
        text(&reactor, answer),
        format!("{length}; title=the sea; empty=; photo: a \"b\".txt text/plain waves")
    );
}

#[test]
fn a_file_goes_out_as_it_comes() {
    let reactor = virtual_time_reactor();
    let client = client_of(&reactor, describe);
    let (sender, file) = Body::channel();
    let form = FormData::new()
        .file("log", "log", "text/plain", file)
        .text("after", "it");
    let answer = client.request(form.post("http://a/").expect("a URL"));
    sender.write("one ").expect("it is read");
    reactor
        .turn(Some(Duration::ZERO))
        .expect("it can be turned");
    no_result(&answer);
    sender.write("two").expect("it is read");
    sender.finish();
    assert_eq!(
        text(&reactor, answer),
        "chunked; after=it; log: log text/plain one two"
    );
}

#[test]
fn a_form_whose_files_have_lengths_has_one() {
    let reactor = virtual_time_reactor();
    let client = client_of(&reactor, describe);
    let mut file = tempfile::tempfile().expect("a file");
    std::io::Write::write_all(&mut file, b"in a file").expect("it takes it");
    let file = Body::file(file).expect("it has a length");
    let form = FormData::new()
        .boundary(1)
        .file("f", "f", "text/plain", file);
    let request = form.post("http://a/").expect("a URL");
    let length = request.body().length().expect("it is known");
    assert!(request.headers()[header::CONTENT_TYPE].len() > 30);
    let answer = client.request(request);
    assert_eq!(
        text(&reactor, answer),
        format!("{length}; f: f text/plain in a file")
    );
}

#[test]
fn a_name_cannot_end_its_line() {
    let evil = "x\"\r\nContent-Type: text/html\r\n\r\n<b>";
    let form = FormData::new().file(evil, evil, "text/plain\r\nX-Evil: 1", "y");
    let (_, body) = form.into_parts();
    let text = success_of(body.read_text(10_000));
    assert_eq!(text.matches("\r\n").count(), 6, "{text}");
}

#[test]
fn two_forms_have_different_boundaries() {
    let types = [FormData::new(), FormData::new()].map(|form| form.into_parts().0);
    assert_ne!(types[0], types[1]);
}

#[test]
fn a_file_that_breaks_off_breaks_the_form_off() {
    let reactor = virtual_time_reactor();
    let client = client_of(&reactor, describe);
    let (sender, file) = Body::channel();
    let form = FormData::new().file("log", "log", "text/plain", file);
    let answer = client.request(form.post("http://a/").expect("a URL"));
    sender.write("one ").expect("it is read");
    drop(sender);
    let error = reactor.run_until(answer).expect_err("it fails");
    assert!(error.to_string().contains("the request's body"), "{error}");
}
