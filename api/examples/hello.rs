//! A bare actix-web server, the reference that the load tester compares Millrace with: the same
//! framework and the same number of worker threads, and nothing else.
//!
//! `cargo run --release -p api --example hello -- --port 8099 --workers 2`

use std::io::Write;

use actix_web::{App, HttpResponse, HttpServer, web};
use clap::Parser;

#[derive(Parser)]
struct Args {
    /// Port on 127.0.0.1; 0 lets the kernel choose
    #[arg(long, default_value_t = 8099)]
    port: u16,
    /// Worker threads: as many as the API has (API_WORKERS), for a fair comparison
    #[arg(long, default_value_t = 2)]
    workers: usize,
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let hello = || async { HttpResponse::Ok().body("Hello, world!") };
    let server =
        HttpServer::new(move || App::new().route("/", web::get().to(hello))).workers(args.workers).bind(("127.0.0.1", args.port))?;
    for address in server.addrs() {
        writeln!(std::io::stdout(), "http://{address}/")?;
    }
    server.run().await
}
