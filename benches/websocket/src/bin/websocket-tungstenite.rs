//! Echo over WebSocket on tokio's current-thread runtime with tokio-tungstenite, as its example has it; with a read
//! buffer of another size for each connection, if an argument says so.

use futures_util::{StreamExt, TryStreamExt, future};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut config = WebSocketConfig::default();
    if let Some(size) = std::env::args().nth(1) {
        config = config.read_buffer_size(size.parse()?);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        // As Torsade has it, and as whoever measures latency sets it.
        socket.set_nodelay(true)?;
        tokio::spawn(async move {
            let Ok(stream) =
                tokio_tungstenite::accept_async_with_config(socket, Some(config)).await
            else {
                return;
            };
            let (write, read) = stream.split();
            let messages = read.try_filter(|it| future::ready(it.is_text() || it.is_binary()));
            // A peer that leaves is no error here.
            let _ = messages.forward(write).await;
        });
    }
}
