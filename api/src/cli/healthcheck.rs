//! `healthcheck`: asks `/readyz`, for containers that have no HTTP client.

use shared::config::Layers;
use std::{
    io::{Read, Write},
    net::{IpAddr, TcpStream, ToSocketAddrs},
    process::ExitCode,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn run(url: Option<String>, port: Option<u16>) -> ExitCode {
    let port: Vec<_> = port.map(|port| ("API_PORT", port.to_string())).into_iter().collect();
    let authority = match url {
        Some(url) => url.trim_start_matches("http://").split('/').next().unwrap_or_default().to_owned(),
        None => match Layers::from_process(&port) {
            Ok(layers) => own_address(&layers),
            Err(problems) => return super::misused(&problems),
        },
    };
    match status_line(&authority) {
        Ok(line) if line.contains(" 200 ") => super::print("ready\n"),
        Ok(line) => {
            super::complain(&format!("{authority} answered: {line}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            super::complain(&format!("{authority} does not answer: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Where the server of this configuration listens. The rest of the configuration is not needed to ask it.
fn own_address(layers: &Layers) -> String {
    let text = |name: &str| layers.in_force().find(|(setting, _)| *setting == name).map(|(_, value)| value).unwrap_or_default();
    let host = text("API_HOST");
    // A server on all addresses answers on the loopback one.
    let is_any = host.parse::<IpAddr>().is_ok_and(|host| host.is_unspecified());
    format!("{}:{}", if is_any { "127.0.0.1" } else { &host }, text("API_PORT"))
}

fn status_line(authority: &str) -> std::io::Result<String> {
    let address = authority.to_socket_addrs()?.next().ok_or_else(|| std::io::Error::other("no such address"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n")?;
    let mut answer = [0; 64];
    let n_read = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..n_read]).lines().next().unwrap_or_default().to_owned())
}
