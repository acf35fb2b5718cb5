//! A small HTTP client.

use serde_json::Value;
use sprang::dashboard::Dashboard;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the dashboard listens");
    // A test fails before the watchdog aborts them all.
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout can be set");
    stream
}

/// Sends the head of a request, without the empty line at its end, and reads the answer until the
/// connection is closed.
pub(crate) fn send(address: SocketAddr, head: &str) -> Answer {
    let mut stream = connect(address);
    stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).expect("the server reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("the server answers");
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status");
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

pub(crate) fn get(dashboard: &Dashboard, path: &str) -> Answer {
    send(dashboard.address(), &format!("GET {path} HTTP/1.1\r\nHost: {}", dashboard.address()))
}

pub(crate) fn json(dashboard: &Dashboard, path: &str) -> Value {
    let answer = get(dashboard, path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    serde_json::from_str(&answer.body).expect("JSON")
}

/// The updates that a page receives.
pub(crate) struct Updates(BufReader<TcpStream>);

pub(crate) fn updates(dashboard: &Dashboard) -> Updates {
    let mut stream = connect(dashboard.address());
    let head = "GET /api/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("the server reads");
    Updates(BufReader::new(stream))
}

impl Iterator for Updates {
    type Item = Value;

    /// Skips all lines but those with data, for example the lengths of chunks.
    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        while self.0.read_line(&mut line).expect("updates come") > 0 {
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).expect("JSON"));
            }
            line.clear();
        }
        None
    }
}
