//! A small WebSocket server that speaks just enough of the protocol, and can be told to lose, double or swap publications.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// The answer to the one nonce that the load tester offers.
const UPGRADED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// What the server does wrong, to one of its subscribers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    None,
    LosesOne,
    DoublesOne,
    SwapsTwo,
    /// Acknowledges one that it sends to nobody and does not number.
    SwallowsOne,
    /// Ends the subscription with 2500, and then cannot recover.
    AnnouncesAGap,
    /// Closes with 3001 and recovers everything.
    ClosesAndRecovers,
    /// Closes with 3010, and then cannot recover.
    ClosesInsufficient,
    RefusesToPublish,
    RefusesToSubscribe,
    /// Answers the upgrade 503.
    IsFull,
}

#[derive(Default)]
struct Hub {
    top: u64,
    /// Publications by offset − 1.
    history: Vec<Value>,
    sockets: Vec<(usize, TcpStream)>,
    n_sockets: usize,
    /// Held back, to be sent after the next.
    held: Option<String>,
    /// The fault has happened.
    is_done: bool,
    /// What came, in order.
    seen: Vec<String>,
}

pub(crate) struct WsStub {
    address: SocketAddr,
    hub: Arc<Mutex<Hub>>,
    is_over: Arc<AtomicBool>,
}

impl WsStub {
    pub(crate) fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (hub, is_over) = (Arc::new(Mutex::new(Hub::default())), Arc::new(AtomicBool::new(false)));
        let (for_thread, is_over_too) = (Arc::clone(&hub), Arc::clone(&is_over));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over_too.load(Ordering::SeqCst) {
                    return;
                }
                let (stream, hub) = (stream.unwrap(), Arc::clone(&for_thread));
                std::thread::spawn(move || serve(stream, &hub, fault));
            }
        });
        Self { address, hub, is_over }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// The commands and requests that came.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.hub.lock().unwrap().seen.clone()
    }
}

impl Drop for WsStub {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: TcpStream, hub: &Mutex<Hub>, fault: Fault) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let (line, n_body) = read_head(&mut reader)?;
        let mut body = vec![0; n_body];
        reader.read_exact(&mut body).ok()?;
        if line.starts_with("POST") {
            let mut hub = hub.lock().unwrap();
            hub.seen.push(line);
            let request: Value = serde_json::from_slice(&body).ok()?;
            hub.publish(&request["data"], fault);
            drop(hub);
            writer.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}").ok()?;
            continue;
        }
        if fault == Fault::IsFull {
            return writer.write_all(b"HTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n").ok();
        }
        writer.write_all(UPGRADED.as_bytes()).ok()?;
        let number = hub.lock().unwrap().enter(&line, &writer);
        let outcome = talk(&mut reader, &mut writer, &line, number, hub, fault);
        hub.lock().unwrap().sockets.retain(|(other, _)| *other != number);
        let _ = writer.shutdown(Shutdown::Both);
        return outcome;
    }
}

fn read_head(reader: &mut impl BufRead) -> Option<(String, usize)> {
    let (mut first, mut n_body) = (None, 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => return Some((first?, n_body)),
            header => n_body = header.strip_prefix("Content-Length: ").and_then(|length| length.parse().ok()).unwrap_or(n_body),
        }
        first.get_or_insert_with(|| line.trim_end().to_owned());
    }
}

fn talk(reader: &mut impl Read, writer: &mut TcpStream, line: &str, number: usize, hub: &Mutex<Hub>, fault: Fault) -> Option<()> {
    loop {
        let text = read_frame(reader)?;
        let mut hub = hub.lock().unwrap();
        if line.contains(" /echo ") {
            send(writer, 1, text.as_bytes());
            continue;
        }
        if line.contains(" /fanout ") {
            for (_, socket) in &mut hub.sockets {
                send(socket, 1, text.as_bytes());
            }
            continue;
        }
        for command in text.lines() {
            hub.seen.push(command.to_owned());
            let command: Value = serde_json::from_str(command).ok()?;
            let reply = hub.obey(&command, number, writer, fault);
            if !reply.is_null() {
                send(writer, 1, reply.to_string().as_bytes());
            }
        }
    }
}

/// A client's frame, which must be masked; None at the end.
fn read_frame(reader: &mut impl Read) -> Option<String> {
    let mut head = [0; 2];
    reader.read_exact(&mut head).ok()?;
    assert_ne!(head[1] & 0x80, 0, "a client must mask");
    let length = match head[1] & 0x7f {
        126 => {
            let mut length = [0; 2];
            reader.read_exact(&mut length).ok()?;
            usize::from(u16::from_be_bytes(length))
        }
        length => usize::from(length),
    };
    let mut mask = [0; 4];
    reader.read_exact(&mut mask).ok()?;
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload).ok()?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    (head[0] & 0x0f == 1).then(|| String::from_utf8(payload).unwrap())
}

fn send(writer: &mut TcpStream, opcode: u8, payload: &[u8]) {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..126 => frame.push(length as u8),
        length => {
            frame.push(126);
            frame.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    // The client may be gone.
    let _ = writer.write_all(&frame);
}

fn close(writer: &mut TcpStream, code: u16) {
    send(writer, 8, &code.to_be_bytes());
}

impl Hub {
    fn enter(&mut self, line: &str, writer: &TcpStream) -> usize {
        let number = self.n_sockets;
        self.n_sockets += 1;
        if line.contains(" /fanout ") {
            self.sockets.push((number, writer.try_clone().unwrap()));
        }
        number
    }

    fn obey(&mut self, command: &Value, number: usize, writer: &TcpStream, fault: Fault) -> Value {
        let id = &command["id"];
        if command.get("connect").is_some() {
            return json!({"id": id, "connect": {"client": "c", "ping": 25, "pong": true}});
        }
        if command.get("rpc").is_some() {
            return json!({"id": id, "rpc": {"data": {}}});
        }
        if let Some(subscribe) = command.get("subscribe") {
            if fault == Fault::RefusesToSubscribe {
                return json!({"id": id, "error": {"code": 103, "message": "permission denied"}});
            }
            self.sockets.push((number, writer.try_clone().unwrap()));
            let mut result = json!({"recoverable": true, "positioned": true, "epoch": "e", "offset": self.top});
            if subscribe["recover"] == true {
                let from = subscribe["offset"].as_u64().unwrap();
                result["was_recovering"] = true.into();
                if fault == Fault::ClosesAndRecovers {
                    result["recovered"] = true.into();
                    result["offset"] = from.into();
                    result["publications"] = self.history[from as usize..].into();
                }
            }
            return json!({"id": id, "subscribe": result});
        }
        match command.get("publish") {
            Some(_) if fault == Fault::RefusesToPublish => json!({"id": id, "error": {"code": 103, "message": "permission denied"}}),
            Some(publish) => {
                self.publish(&publish["data"], fault);
                json!({"id": id, "publish": {}})
            }
            None => Value::Null,
        }
    }

    fn publish(&mut self, data: &Value, fault: Fault) {
        // Late enough that something came before.
        let is_due = self.top == 5 && !self.is_done;
        if is_due && fault == Fault::SwallowsOne {
            self.is_done = true;
            return;
        }
        self.top += 1;
        let publication = json!({"data": data, "offset": self.top});
        self.history.push(publication.clone());
        let text = json!({"push": {"channel": "c", "pub": publication}}).to_string();
        // The publisher is the first subscriber: the victim is the last.
        let n_others = self.sockets.len() - 1;
        for (_, socket) in &mut self.sockets[..n_others] {
            send(socket, 1, text.as_bytes());
        }
        let (_, victim) = &mut self.sockets[n_others];
        if let Some(held) = self.held.take() {
            send(victim, 1, text.as_bytes());
            send(victim, 1, held.as_bytes());
            return;
        }
        self.is_done |= is_due;
        match fault {
            Fault::LosesOne if is_due => {}
            Fault::SwapsTwo if is_due => self.held = Some(text),
            Fault::DoublesOne if is_due => (0..2).for_each(|_| send(victim, 1, text.as_bytes())),
            Fault::AnnouncesAGap if is_due => {
                send(victim, 1, br#"{"push":{"channel":"c","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#);
                self.sockets.pop();
            }
            Fault::ClosesAndRecovers | Fault::ClosesInsufficient if is_due => {
                close(victim, if fault == Fault::ClosesAndRecovers { 3001 } else { 3010 });
                self.sockets.pop();
            }
            Fault::None
            | Fault::LosesOne
            | Fault::DoublesOne
            | Fault::SwapsTwo
            | Fault::SwallowsOne
            | Fault::AnnouncesAGap
            | Fault::ClosesAndRecovers
            | Fault::ClosesInsufficient
            | Fault::RefusesToPublish
            | Fault::RefusesToSubscribe
            | Fault::IsFull => send(victim, 1, text.as_bytes()),
        }
    }
}
