//! A way to a server that a test can break: it passes everything on, or nothing at all, or lets nobody in.

use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
};

/// How the way is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    /// Connections are taken and kept, and nothing moves on them: as with a server that was stopped in its tracks.
    Hanging,
    /// Connections are closed, and new ones refused: as with a server that was killed.
    Refusing,
}

/// Lives as long as the runtime it was started on.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    way: watch::Sender<Way>,
}

impl Proxy {
    /// Passes on to the server that `url` names; gives itself and the same URL by way of it.
    pub async fn before(url: &str) -> (Self, String) {
        let authority_at = url.find("://").expect("a URL has a scheme") + 3;
        let path_at = url[authority_at..].find('/').map_or(url.len(), |at| authority_at + at);
        let host_at = url[authority_at..path_at].rfind('@').map_or(authority_at, |at| authority_at + at + 1);
        let server = url[host_at..path_at].to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port 0 is free");
        let address = listener.local_addr().expect("a listener has an address");
        let (way, _) = watch::channel(Way::Open);
        tokio::spawn(listen(listener, address, server, way.subscribe()));
        let proxied = format!("{}{address}{}", &url[..host_at], &url[path_at..]);
        (Self { address, way }, proxied)
    }

    pub fn hang(&self) {
        self.way.send_replace(Way::Hanging);
    }

    /// Returns once nobody is let in any more.
    pub async fn refuse(&self) {
        self.way.send_replace(Way::Refusing);
        while TcpStream::connect(self.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// What waited goes on, where it was not closed.
    pub fn open(&self) {
        self.way.send_replace(Way::Open);
    }
}

async fn listen(listener: TcpListener, address: SocketAddr, server: String, mut way: watch::Receiver<Way>) {
    let mut listener = Some(listener);
    loop {
        let now = *way.borrow_and_update();
        if now == Way::Refusing {
            listener = None;
        }
        let Some(open) = &listener else {
            if way.wait_for(|way| *way != Way::Refusing).await.is_err() {
                return;
            }
            let socket = TcpSocket::new_v4().expect("sockets can be made");
            socket.set_reuseaddr(true).expect("an address may be used again");
            socket.bind(address).expect("the port is still ours");
            listener = Some(socket.listen(64).expect("a bound socket listens"));
            continue;
        };
        tokio::select! {
            accepted = open.accept() => {
                let (stream, _) = accepted.expect("connections can be taken");
                tokio::spawn(pass(stream, server.clone(), way.clone()));
            }
            changed = way.changed() => if changed.is_err() { return },
        }
    }
}

/// Ends with either side, or when the way is closed.
async fn pass(mut client: TcpStream, server: String, mut way: watch::Receiver<Way>) {
    if way.wait_for(|way| *way != Way::Hanging).await.is_err() {
        return;
    }
    let Ok(mut upstream) = TcpStream::connect(&server).await else { return };
    loop {
        let now = *way.borrow_and_update();
        match now {
            Way::Refusing => return,
            Way::Hanging => {
                if way.changed().await.is_err() {
                    return;
                }
            }
            // What is cut off here was read and not passed on, which only a way that hangs for good would show; it is lost with it.
            Way::Open => tokio::select! {
                _ = copy_bidirectional(&mut client, &mut upstream) => return,
                changed = way.changed() => if changed.is_err() { return },
            },
        }
    }
}
