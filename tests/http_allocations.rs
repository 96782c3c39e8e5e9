//! What a request allocates, counted.
//!
//! A binary of its own, because the allocator is the whole program's.

#![expect(
    unsafe_code,
    reason = "a global allocator is an unsafe trait; this one counts and passes on"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use torsade::prelude::*;
use torsade::protocols::http::{
    Answer, Handler, HeaderValue, IntoAnswer, Request, Response, StaticFiles, header,
};

struct Counting;

thread_local! {
    static MADE: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator with the arguments it came with; the
// counter is a thread-local without a destructor, which allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        MADE.set(MADE.get() + 1);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above, that is from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn answer(files: &StaticFiles, request: Request) -> Answer {
    match request.path() {
        "/passwd" => files.handle(request),
        "/text" => "hello".into_answer(),
        "/header" => {
            let mut response = Response::new("hello".into());
            let value = HeaderValue::from_static("no-store");
            response.headers_mut().insert(header::CACHE_CONTROL, value);
            response.into_answer()
        }
        _ => succeed::<_, Failure>("later").into_answer(),
    }
}

/// How many allocations a hundred of these requests make, when all lists have their room.
fn allocations(request: &str) -> usize {
    const REQUESTS: usize = 100;
    let reactor = Reactor::new().expect("there is a loop");
    // A file of ours might have been changed a moment ago, as the system says: then it is not in memory yet.
    let files = StaticFiles::new("/etc");
    let answer = move |request| answer(&files, request);
    let server = http::serve(&reactor, "127.0.0.1:0", answer).expect("there is a port");
    let mut client = TcpStream::connect(server.address().to_string()).expect("it listens");
    client.set_nonblocking(true).expect("it can be asked");
    let mut buffer = [0; 65_536];
    let mut exchange = |times| {
        for _ in 0..times {
            client
                .write_all(request.as_bytes())
                .expect("it takes so little");
            while client.read(&mut buffer).is_err() {
                let turned = reactor.turn(Some(Duration::from_secs(1)));
                turned.expect("it turns");
            }
        }
    };
    exchange(REQUESTS);
    let before = MADE.get();
    exchange(REQUESTS);
    (MADE.get() - before) / REQUESTS
}

#[test]
fn a_small_request_answered_with_text_allocates_nothing() {
    assert_eq!(allocations("GET /text HTTP/1.1\r\nHost: here\r\n\r\n"), 0);
    let browser = "GET /text HTTP/1.1\r\nHost: here\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
         Accept: text/html,application/xhtml+xml\r\nAccept-Language: en\r\nAccept-Encoding: gzip, deflate\r\n\
         Cookie: a=b\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(allocations(browser), 0);
}

#[test]
fn a_header_of_the_response_costs_the_two_allocations_of_its_map() {
    assert_eq!(allocations("GET /header HTTP/1.1\r\nHost: here\r\n\r\n"), 2);
}

#[test]
fn a_file_in_memory_allocates_nothing() {
    assert_eq!(allocations("GET /passwd HTTP/1.1\r\nHost: here\r\n\r\n"), 0);
}
