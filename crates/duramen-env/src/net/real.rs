//! TCP of the machine, with Nagle's algorithm off.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{BoxFuture, Connection, Listener, Net};

/// TCP of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealNet {
    source: Option<IpAddr>,
}

impl RealNet {
    /// Connections go out from this address of the machine where it can reach the other side: to
    /// addresses of the same family, and between loopback addresses only or between others only.
    #[must_use]
    pub const fn from_source(source: IpAddr) -> Self {
        Self { source: Some(source) }
    }

    async fn connect_to(self, to: SocketAddr) -> io::Result<TcpStream> {
        let Some(source) = self.source.filter(|source| reaches(*source, to.ip())) else {
            return TcpStream::connect(to).await;
        };
        let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(SocketAddr::new(source, 0))?;
        socket.connect(to).await
    }
}

fn reaches(source: IpAddr, to: IpAddr) -> bool {
    source.is_ipv4() == to.is_ipv4() && source.is_loopback() == to.is_loopback()
}

impl Net for RealNet {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = TcpListener::bind(address).await?;
            Ok(Box::new(RealListener(listener)) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(async move {
            let mut failure = io::Error::from(io::ErrorKind::NotFound);
            for to in tokio::net::lookup_host(address).await? {
                match self.connect_to(to).await {
                    Ok(stream) => {
                        stream.set_nodelay(true)?;
                        return Ok(Box::new(stream) as Connection);
                    }
                    Err(error) => failure = error,
                }
            }
            Err(failure)
        })
    }
}

#[derive(Debug)]
struct RealListener(TcpListener);

impl Listener for RealListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Connection, SocketAddr)>> {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Connection, peer))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_go_out_from_the_address_that_was_chosen() {
        let listener = RealNet::default().listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        for (net, from) in [
            (RealNet::default(), "127.0.0.1"),
            (RealNet::from_source("127.0.0.7".parse().unwrap()), "127.0.0.7"),
            // One that cannot reach loopback is left alone.
            (RealNet::from_source("192.0.2.1".parse().unwrap()), "127.0.0.1"),
            (RealNet::from_source("::1".parse().unwrap()), "127.0.0.1"),
        ] {
            let (connected, accepted) = tokio::join!(net.connect(&address), listener.accept());
            connected.unwrap();
            assert_eq!(accepted.unwrap().1.ip().to_string(), from, "{net:?}");
        }
    }
}
