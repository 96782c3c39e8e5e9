//! Which tables there are, and who measures them.

/// What is asked for by a name.
pub struct Table {
    pub name: &'static str,
    pub heading: &'static str,
    /// What is measured, in a sentence or two, below the heading.
    pub says: &'static str,
    /// The program, and what it is told before the number of rounds. None: `builds.rs`.
    pub program: Option<(&'static str, &'static [&'static str])>,
    /// The groups of columns that it measures, and what stands above each.
    pub groups: &'static [(&'static str, &'static str)],
}

pub const TABLES: [Table; 21] = [
    Table {
        name: "echo",
        heading: "Echo over TCP",
        says: "CPU time of the server for a message there and back. The load checks every byte. tokio in its first \
               row, smol, monoio, may and Go have a buffer for each connection, of 64 KiB, which is their memory here; see \
               `idle`.",
        program: Some(("bench-echo", &["echo"])),
        groups: &[("echo", "")],
    },
    Table {
        name: "udp",
        heading: "Echo of datagrams",
        says: "CPU time of the server for a datagram there and back; none may be lost, and the load looks at every byte.",
        program: Some(("bench-echo", &["udp"])),
        groups: &[("udp", "")],
    },
    Table {
        name: "accepts",
        heading: "Connections that come and go",
        says: "CPU time of the server for a connection that is accepted, and lost when its peer ends it. Those with a \
               buffer for each connection have one of 256 B here.",
        program: Some(("bench-echo", &["accepts"])),
        groups: &[("accepts", "")],
    },
    Table {
        name: "idle",
        heading: "Memory of silent connections",
        says: "What the server holds more with 10,000 connections that have spoken once, for each of them; the kernel's \
               own memory for a socket is not in it. Those with a buffer for each connection have one of 4 KiB here. In \
               three rounds at most.",
        program: Some(("bench-echo", &["idle"])),
        groups: &[("idle", "")],
    },
    Table {
        name: "call-soon",
        heading: "Calls for the next turn",
        says: "A thousand in each turn.",
        program: Some(("bench-loop", &["call_soon"])),
        groups: &[
            ("call_soon", "A callback that captures nothing:"),
            (
                "call_soon_capturing",
                "A callback that captures an `Rc` and a number:",
            ),
        ],
    },
    Table {
        name: "timers",
        heading: "Timers",
        says: "Each that fires checks that it is not early.",
        program: Some(("bench-loop", &["timers"])),
        groups: &[
            (
                "timers_cancel",
                "Put in and cancelled at once, while so many others are pending:",
            ),
            (
                "timers_replace",
                "Put in while the oldest is cancelled, as timeouts of connections that come and go are:",
            ),
            (
                "timers_fire",
                "Put in and fired, all within a tenth of a second; a million within one:",
            ),
        ],
    },
    Table {
        name: "threads",
        heading: "Calls from other threads",
        says: "CPU time of the process, the posting threads and the loop together, for a call. Go's channel has room for 1,024 \
               and its posters wait while it is full; what the others post to has no bound.",
        program: Some(("bench-loop", &["call_from_thread"])),
        groups: &[("call_from_thread", "")],
    },
    Table {
        name: "latency",
        heading: "How soon a call from another thread is made",
        says: "The one table by the wall clock, which the scheduler and the machine's other work are part of.",
        program: Some(("bench-loop", &["latency"])),
        groups: &[("latency", "")],
    },
    Table {
        name: "turn",
        heading: "A turn of the loop",
        says: "",
        program: Some(("bench-loop", &["turn"])),
        groups: &[
            (
                "turn",
                "One descriptor that is always ready, watched as a level:",
            ),
            (
                "turn_answered",
                "One socket, from which the callback reads 64 B that it sent itself:",
            ),
        ],
    },
    Table {
        name: "deferred",
        heading: "Chains of callbacks",
        says: "A result that is to come, so many links behind it, fired, the sum compared, everything dropped. Boxed \
               futures inside one another are polled by recursion, which for a million links needs gigabytes of stack: \
               they get them. On a stack of the usual size such a chain is a task and a oneshot for each link.",
        program: Some(("bench-deferred", &[])),
        groups: &[("deferred", "")],
    },
    Table {
        name: "tls",
        heading: "Echo over TLS",
        says: "One cipher suite for all (TLS 1.3, AES-256-GCM); the same rustls with the same provider below the first two. The \
               load checks every byte.",
        program: Some(("tls-bench", &[])),
        groups: &[("tls", "")],
    },
    Table {
        name: "websocket",
        heading: "Echo over WebSocket",
        says: "Of binary messages, after the handshakes. The load masks as a client has to, and checks every byte. tungstenite has a \
               read buffer of 128 KiB for each connection unless it is told otherwise.",
        program: Some(("websocket-bench", &[])),
        groups: &[("websocket", "")],
    },
    Table {
        name: "http",
        heading: "An HTTP server",
        says: "The same server as each library's documentation would have it, one thread that works; the load looks at \
               every byte of every response but the date's. Of the file, nginx keeps the descriptor, and looks at its path \
               once a minute; ours keeps the content, and looks once a second. The others open it for each request, and so \
               do the rows that say it. The JSON of nginx is a text of its configuration, which the others make anew for each \
               request.",
        program: Some(("http-bench", &[])),
        groups: &[("http", "")],
    },
    Table {
        name: "http-wrk",
        heading: "The same server under wrk",
        says: "Somebody else's load: `wrk`, one thread, a second each; it says how many responses came, and an error of its \
               fails the run. It looks at no byte of them: before it comes our own load asks each server a thousand times in \
               the same shape, and does.",
        program: Some(("http-bench", &["wrk"])),
        groups: &[("http-wrk", "")],
    },
    Table {
        name: "http-client",
        heading: "The HTTP client",
        says: "A hundred requests at a time over connections that are kept; both in one process, hence no memory.",
        program: Some(("http-client-bench", &[])),
        groups: &[("http-client", "")],
    },
    Table {
        name: "forward",
        heading: "A forwarder",
        says: "The example `proxy` in front of a bare echo server, beside nginx's stream module (one worker) and haproxy \
               (one thread), as their packages have them and with buffers as large as ours.",
        program: Some(("bench-forward", &[])),
        groups: &[("forward", "")],
    },
    Table {
        name: "reverse-proxy",
        heading: "A reverse proxy",
        says: "In front of one server, which is not measured, over connections that are kept, beside nginx (one worker) and \
               haproxy (one thread). All tell the server who asked, for what and through whom, in the same fields; nginx also \
               without, as it comes. The load looks at every byte of every response but the date's.",
        program: Some(("bench-reverse-proxy", &[])),
        groups: &[("reverse-proxy", "")],
    },
    Table {
        name: "simulation",
        heading: "A simulated network",
        says: "An echo of 64 B between two hosts, by a seed, in virtual time: what a message costs where the connection stands, \
               and what a short simulation costs, its making included. Beside it the same program on the system's loopback, \
               both ends in one reactor, and the same in turmoil, on tokio.",
        program: Some(("bench-simulation", &[])),
        groups: &[("simulation", "")],
    },
    Table {
        name: "startup",
        heading: "From exec to listening",
        says: "The echo servers.",
        program: Some(("bench-echo", &["startup"])),
        groups: &[("startup", "")],
    },
    Table {
        name: "build",
        heading: "Building",
        says: "The echo server in a project of its own, built once from nothing with Cargo's release profile (stripped), \
               everything downloaded before.",
        program: None,
        groups: &[("build", "")],
    },
    Table {
        name: "exact",
        heading: "Counted, not timed",
        says: "Instructions (callgrind), system calls (strace) and allocations (memcheck) of a unit: the same each time, \
               so CI holds them to bounds (`bench-exact check`). The clients of the echoes are in the same process, and \
               in the count.",
        program: Some(("bench-exact", &[])),
        groups: &[],
    },
];
