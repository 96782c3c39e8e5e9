//! Echo on smol's executor for one thread, as its documentation has it: `echo-smol [BUFFER]`.

use std::rc::Rc;

use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{LocalExecutor, net::TcpListener};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let size = echo_peers::buffer_size();
    let executor = Rc::new(LocalExecutor::new());
    let own = Rc::clone(&executor);
    smol::block_on(executor.run(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (mut socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            let echo = async move {
                let mut buffer = vec![0; size];
                while let Ok(count @ 1..) = socket.read(&mut buffer).await {
                    if socket.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            };
            own.spawn(echo).detach();
        }
    }))
}
