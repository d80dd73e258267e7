//! The pages of a node: health and metrics, over one plain HTTP request.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Outcome;

/// How long a page may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Status and body of a page.
///
/// # Errors
/// No connection, no answer in time, or one that is no HTTP.
pub async fn get(address: &str, path: &str) -> Outcome<(u16, String)> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = tokio::time::timeout(TIMEOUT, asked).await??;
    let text = String::from_utf8(bytes)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("an answer without a head")?;
    let status = head.split(' ').nth(1).ok_or("an answer without a status")?;
    Ok((status.parse()?, body.to_owned()))
}
