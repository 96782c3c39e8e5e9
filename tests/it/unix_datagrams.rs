//! Datagrams over UNIX sockets, with Python at the other end.

use std::cell::{Cell, RefCell};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use torsade::prelude::*;
use torsade::reactor::{DatagramOptions, UnixAddress};

use crate::programs::{missing, tool};

/// Python that waits for what comes for 30 s at most.
fn python(program: &str, arguments: &[&str]) -> Option<Command> {
    let mut python = tool("python3")?;
    let socket = "import socket, sys\n\
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
        s.settimeout(30)\n";
    python.args(["-c", &format!("{socket}{program}")]);
    python.args(arguments).stdout(Stdio::piped());
    Some(python)
}

#[derive(Clone, Default)]
struct Diary {
    lines: Rc<RefCell<Vec<String>>>,
    answers: bool,
    refused: Rc<Cell<bool>>,
}

impl DatagramProtocol for Diary {
    fn datagram_received(
        &mut self,
        transport: &DatagramTransport<Self>,
        data: &[u8],
        from: &Address,
    ) {
        let text = String::from_utf8_lossy(data);
        self.lines.borrow_mut().push(format!("{text} from {from}"));
        if self.answers {
            transport.write_to(format!("you said {text}"), from);
        }
    }

    fn connection_refused(&mut self, _: &DatagramTransport<Self>) {
        self.refused.set(true);
    }
}

/// Turns until it holds; each waits for something to happen.
#[track_caller]
fn run_until(reactor: &Reactor, mut done: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        let turned = reactor.turn(Some(Duration::from_secs(30)));
        turned.expect("the loop can wait");
    }
    panic!("1000 turns, and still not done");
}

#[test]
fn python_asks_and_is_answered_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, theirs) = (folder.path().join("torsade"), folder.path().join("python"));
    let program = "s.sendto(b'nameless', sys.argv[1])\n\
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
        s.settimeout(30)\n\
        s.bind(sys.argv[2])\n\
        for text in [b'hello', b'', b'x' * 50000]:\n\
        \x20   s.sendto(text, sys.argv[1])\n\
        \x20   data, peer = s.recvfrom(100000)\n\
        \x20   print(len(data), data[:14].decode(), peer == sys.argv[1])\n";
    let arguments = [&ours, &theirs].map(|path| path.to_str().expect("it is text"));
    let Some(mut command) = python(program, &arguments) else {
        return missing("python3");
    };
    let reactor = Reactor::new().expect("there is a loop");
    let diary = Diary {
        answers: true,
        ..Diary::default()
    };
    let lines = Rc::clone(&diary.lines);
    let port = reactor.listen_unix_datagrams(&ours, diary);
    let _port = port.expect("the path is free");
    let child = command.spawn().expect("it starts");
    run_until(&reactor, || lines.borrow().len() == 4);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "14 you said hello True\n9 you said  True\n50009 you said xxxxx True\n"
    );
    let lines = lines.borrow();
    assert_eq!(lines[0], "nameless from unix:(unnamed)");
    assert_eq!(lines[1], format!("hello from unix:{}", theirs.display()));
}

#[test]
fn python_answers_and_its_end_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("python");
    // It reads slowly enough that its queue is full at times, and ends without its file.
    let program = "s.bind(sys.argv[1])\n\
        print('bound', flush=True)\n\
        for number in range(200):\n\
        \x20   data, peer = s.recvfrom(100)\n\
        \x20   assert data == b'%d' % number, data\n\
        s.sendto(b'all of them', peer)\n";
    let argument = path.to_str().expect("it is text");
    let Some(mut command) = python(program, &[argument]) else {
        return missing("python3");
    };
    let reactor = Reactor::new().expect("there is a loop");
    let mut child = command.spawn().expect("it starts");
    let mut said = std::io::BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).expect("text");
    assert_eq!(line, "bound\n");
    let diary = Diary::default();
    let (lines, refused) = (Rc::clone(&diary.lines), Rc::clone(&diary.refused));
    let own = UnixAddress::Abstract(Box::from(&b""[..]));
    let options = DatagramOptions::new().local_address(own);
    let port = reactor.connect_unix_datagrams_with(&path, &options, diary);
    let port = port.expect("it is there");
    for number in 0..200 {
        port.write(number.to_string());
    }
    run_until(&reactor, || !lines.borrow().is_empty());
    let expected = format!("all of them from unix:{}", path.display());
    assert_eq!(*lines.borrow(), [expected]);
    assert!(child.wait().expect("it ends").success());
    port.write("nobody");
    run_until(&reactor, || refused.get());
}
