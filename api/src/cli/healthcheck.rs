//! `healthcheck`: asks `/readyz`, for containers that have no HTTP client.

use std::{
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    process::ExitCode,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn run(url: Option<String>) -> ExitCode {
    let authority = match url {
        Some(url) => url.trim_start_matches("http://").split('/').next().unwrap_or_default().to_owned(),
        None => match super::load(&[]) {
            // A server on all addresses answers on the loopback one.
            Ok((settings, _)) if settings.api_host.is_unspecified() => format!("127.0.0.1:{}", settings.api_port),
            Ok((settings, _)) => format!("{}:{}", settings.api_host, settings.api_port),
            Err(problems) => {
                super::complain(&problems.to_string());
                return ExitCode::from(super::MISUSE);
            }
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
