//! A bare actix-ws server, the reference that the load tester compares Millrace's sockets with: the same framework, the same
//! number of worker threads, no protocol, no Redis.
//!
//! `/echo` sends every text frame back. Everyone who connects to `/fanout` is subscribed: a text frame from any of them goes to
//! all, through one room per worker thread. A reader that never reads holds up its room: that is what bare means.
//!
//! `cargo run --release -p api --example bare_ws -- --port 8098 --workers 2`

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::web::{Data, Payload};
use actix_web::{App, Error, HttpRequest, HttpResponse, HttpServer, rt, web};
use actix_ws::{Message, MessageStream, Session};
use clap::Parser;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::unconstrained;

/// Messages a room may be behind before publishers wait.
const ROOM_BACKLOG: usize = 1024;

#[derive(Parser)]
struct Args {
    /// Port on 127.0.0.1; 0 lets the kernel choose
    #[arg(long, default_value_t = 8098)]
    port: u16,
    /// Worker threads: as many as the API has (API_WORKERS), for a fair comparison
    #[arg(long, default_value_t = 2)]
    workers: usize,
}

/// What the room of one thread is told.
enum RoomMessage {
    Join(Session),
    /// A text frame for all.
    Publish(Message),
}

/// The rooms of all threads; each knows its own too, for those who join.
type Rooms = Arc<Mutex<Vec<Sender<RoomMessage>>>>;

struct Thread {
    own_room: Sender<RoomMessage>,
    rooms: Rooms,
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let rooms = Rooms::default();
    let server = HttpServer::new(move || {
        let (own_room, messages) = channel(ROOM_BACKLOG);
        rooms.lock().unwrap_or_else(PoisonError::into_inner).push(own_room.clone());
        rt::spawn(keep_room(messages));
        let thread = Thread { own_room, rooms: Arc::clone(&rooms) };
        App::new().app_data(Data::new(thread)).route("/echo", web::get().to(echo)).route("/fanout", web::get().to(fan_out))
    });
    let server = server.workers(args.workers).tcp_nodelay(true).bind(("127.0.0.1", args.port))?;
    for address in server.addrs() {
        writeln!(std::io::stdout(), "ws://{address}/echo")?;
    }
    server.run().await
}

async fn echo(request: HttpRequest, payload: Payload) -> Result<HttpResponse, Error> {
    let (response, mut session, mut messages) = actix_ws::handle(&request, payload)?;
    rt::spawn(async move {
        while let Some(Ok(message)) = messages.recv().await {
            let sent = match message {
                Message::Text(text) => session.text(text).await,
                Message::Ping(payload) => session.pong(&payload).await,
                Message::Close(_) => break,
                Message::Binary(_) | Message::Continuation(_) | Message::Pong(_) | Message::Nop => Ok(()),
            };
            if sent.is_err() {
                return;
            }
        }
        // The client may be gone already.
        let _ = session.close(None).await;
    });
    Ok(response)
}

async fn fan_out(request: HttpRequest, payload: Payload, thread: Data<Thread>) -> Result<HttpResponse, Error> {
    let (response, session, messages) = actix_ws::handle(&request, payload)?;
    // Before the response goes out: a client that is told it is connected gets everything from then on.
    let _ = thread.own_room.send(RoomMessage::Join(session.clone())).await;
    rt::spawn(take_part(session, messages, thread));
    Ok(response)
}

async fn take_part(mut session: Session, mut messages: MessageStream, thread: Data<Thread>) {
    while let Some(Ok(message)) = messages.recv().await {
        match message {
            Message::Text(text) => {
                let rooms = thread.rooms.lock().unwrap_or_else(PoisonError::into_inner).clone();
                for room in rooms {
                    let _ = room.send(RoomMessage::Publish(Message::Text(text.clone()))).await;
                }
            }
            Message::Ping(payload) if session.pong(&payload).await.is_ok() => {}
            Message::Ping(_) | Message::Close(_) => break,
            Message::Binary(_) | Message::Continuation(_) | Message::Pong(_) | Message::Nop => {}
        }
    }
    // The room drops its copy when it next sends to it.
    let _ = session.close(None).await;
}

/// Sends each frame to everyone on this thread.
async fn keep_room(mut messages: Receiver<RoomMessage>) {
    let mut sessions: Vec<Session> = Vec::new();
    while let Some(message) = messages.recv().await {
        match message {
            RoomMessage::Join(session) => sessions.push(session),
            RoomMessage::Publish(Message::Text(text)) => {
                let mut at = 0;
                while let Some(session) = sessions.get_mut(at) {
                    // Unconstrained: tokio's budget would make a send wait that has room.
                    match unconstrained(session.text(text.clone())).await {
                        Ok(()) => at += 1,
                        Err(_) => drop(sessions.swap_remove(at)),
                    }
                }
            }
            RoomMessage::Publish(_) => {}
        }
    }
}
