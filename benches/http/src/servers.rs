//! The same server, as each library's own documentation would have it: hello, JSON, a file of 10 KiB, an
//! echo. One thread that works, sockets without Nagle (but may_minihttp's, which has no way to say it), the same
//! allocator.

use std::error::Error;

pub fn serve(name: &str) -> Result<(), Box<dyn Error>> {
    match name {
        "torsade" => ours::serve(true),
        "torsade, opened each time" => ours::serve(false),
        "hyper" => by_hyper::serve(),
        "actix-web" => by_actix::serve(),
        "may_minihttp" => by_may::serve(),
        other => Err(format!("no server is called {other}").into()),
    }
}

/// A file of 10 KiB, in a folder of its own.
fn file() -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("http-bench-file-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder takes a folder");
    let path = folder.join("file");
    std::fs::write(&path, [b'f'; 10 * 1024]).expect("the temporary folder takes a file");
    path
}

#[derive(serde::Serialize)]
struct Message {
    message: &'static str,
    numbers: [u32; 3],
}

const MESSAGE: Message = Message {
    message: "Hello, world!",
    numbers: [1, 2, 3],
};

mod ours {
    use std::error::Error;
    use std::fs::File;

    use torsade::prelude::*;
    use torsade::protocols::http::{
        Answer, Body, Handler, IntoAnswer, Json, Request, StaticFiles, StatusCode,
    };

    /// `keeps_open`: as a folder of files is served, where small ones are in memory and are looked at once a second, and
    /// read when they have changed. Otherwise as a handler does it that knows of one file.
    pub fn serve(keeps_open: bool) -> Result<(), Box<dyn Error>> {
        let reactor = Reactor::new()?;
        let path = super::file();
        let folder = StaticFiles::new(path.parent().ok_or("it has a folder")?);
        let server = http::serve(
            &reactor,
            "127.0.0.1:0",
            move |mut request: Request| -> Answer {
                match request.path() {
                    "/" => "Hello, world!".into_answer(),
                    "/json" => Json(super::MESSAGE).into_answer(),
                    "/file" if keeps_open => folder.handle(request),
                    "/file" => File::open(&path).and_then(Body::file).into_answer(),
                    "/echo" => request.read_body().into_answer(),
                    _ => StatusCode::NOT_FOUND.into_answer(),
                }
            },
        )?;
        println!("{}", server.address());
        reactor.run()?;
        Ok(())
    }
}

mod by_hyper {
    use std::convert::Infallible;
    use std::error::Error;
    use std::path::Path;
    use std::rc::Rc;

    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response, StatusCode};
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;
    use tokio::task::LocalSet;

    pub fn serve() -> Result<(), Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let local = LocalSet::new();
        let path = Rc::new(super::file());
        local.block_on(&runtime, async move {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            println!("{}", listener.local_addr()?);
            loop {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let path = Rc::clone(&path);
                let service = service_fn(move |request| answer(request, Rc::clone(&path)));
                tokio::task::spawn_local(async move {
                    let connection = http1::Builder::new()
                        .pipeline_flush(true)
                        .serve_connection(TokioIo::new(stream), service);
                    // A client that goes is no news.
                    let _ = connection.await;
                });
            }
        })
    }

    async fn answer(
        request: Request<Incoming>,
        path: Rc<impl AsRef<Path>>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let mut response = Response::new(Full::default());
        let mut typed = |media_type| {
            let value = hyper::header::HeaderValue::from_static(media_type);
            response
                .headers_mut()
                .insert(hyper::header::CONTENT_TYPE, value);
        };
        match request.uri().path() {
            "/" => {
                typed("text/plain; charset=utf-8");
                *response.body_mut() = Full::new(Bytes::from_static(b"Hello, world!"));
            }
            "/json" => {
                typed("application/json");
                let text = serde_json::to_vec(&super::MESSAGE).unwrap_or_default();
                *response.body_mut() = Full::new(text.into());
            }
            // On this thread, as ours: tokio's own way sends each read to another.
            "/file" => match std::fs::read((*path).as_ref()) {
                Ok(bytes) => {
                    typed("application/octet-stream");
                    *response.body_mut() = Full::new(bytes.into());
                }
                Err(_) => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
            },
            "/echo" => match request.into_body().collect().await {
                Ok(body) => {
                    typed("application/octet-stream");
                    *response.body_mut() = Full::new(body.to_bytes());
                }
                Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
            },
            _ => *response.status_mut() = StatusCode::NOT_FOUND,
        }
        Ok(response)
    }
}

mod by_actix {
    use std::error::Error;
    use std::net::TcpListener;

    use actix_web::{App, HttpResponse, HttpServer, web};

    pub fn serve() -> Result<(), Box<dyn Error>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        println!("{}", listener.local_addr()?);
        let path = super::file();
        actix_web::rt::System::new().block_on(async move {
            HttpServer::new(move || {
                let path = path.clone();
                App::new()
                    .route(
                        "/",
                        web::get().to(async || {
                            HttpResponse::Ok()
                                .content_type("text/plain; charset=utf-8")
                                .body("Hello, world!")
                        }),
                    )
                    .route(
                        "/json",
                        web::get().to(async || HttpResponse::Ok().json(super::MESSAGE)),
                    )
                    .route(
                        "/file",
                        web::get().to(move || {
                            let bytes = std::fs::read(&path);
                            async move {
                                match bytes {
                                    Ok(bytes) => HttpResponse::Ok()
                                        .content_type("application/octet-stream")
                                        .body(bytes),
                                    Err(_) => HttpResponse::InternalServerError().finish(),
                                }
                            }
                        }),
                    )
                    .route(
                        "/echo",
                        web::post().to(async |body: web::Bytes| {
                            HttpResponse::Ok()
                                .content_type("application/octet-stream")
                                .body(body)
                        }),
                    )
            })
            .workers(1)
            .tcp_nodelay(true)
            .listen(listener)?
            .run()
            .await
        })?;
        Ok(())
    }
}

mod by_may {
    use std::error::Error;
    use std::io;
    use std::io::Read;
    use std::net::TcpListener;
    use std::sync::OnceLock;

    use may_minihttp::{HttpServer, HttpService, Request, Response};

    static FILE: OnceLock<std::path::PathBuf> = OnceLock::new();

    #[derive(Clone)]
    struct Answers;

    impl HttpService for Answers {
        fn call(
            &mut self,
            request: Request<'_, '_, '_>,
            response: &mut Response<'_>,
        ) -> io::Result<()> {
            match request.path() {
                "/" => {
                    response.header("Content-Type: text/plain; charset=utf-8");
                    response.body("Hello, world!");
                }
                "/json" => {
                    response.header("Content-Type: application/json");
                    let text = serde_json::to_vec(&super::MESSAGE)?;
                    response.body_mut().extend_from_slice(&text);
                }
                "/file" => {
                    response.header("Content-Type: application/octet-stream");
                    let bytes = std::fs::read(FILE.get_or_init(super::file))?;
                    response.body_mut().extend_from_slice(&bytes);
                }
                "/echo" => {
                    response.header("Content-Type: application/octet-stream");
                    let mut body = Vec::new();
                    request.body().read_to_end(&mut body)?;
                    response.body_vec(body);
                }
                _ => {
                    response.status_code(404, "Not Found");
                }
            }
            Ok(())
        }
    }

    pub fn serve() -> Result<(), Box<dyn Error>> {
        may::config().set_workers(1);
        // It says nothing of the port that it took.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let server = HttpServer(Answers).start(address)?;
        println!("{address}");
        server.wait();
        Ok(())
    }
}
