//! Clients and programs that wish the dashboard ill.

use super::{gate, squares, until, with_dashboard};
use crate::client::{connect, get, json};
use serde_json::Value;
use sprang::{ErrorKind, compute_each, config, delayed, try_delayed};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// One connection that sends many requests.
struct Peer(BufReader<TcpStream>);

impl Peer {
    /// Sends a request and returns the status of its answer.
    fn status(&mut self, request: &str) -> u16 {
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut num_bytes = 0;
        loop {
            line.clear();
            self.0.read_line(&mut line).unwrap();
            match line.trim_end().to_lowercase().split_once(": ") {
                Some(("content-length", number)) => num_bytes = number.parse().unwrap(),
                Some(_) => {}
                None => break,
            }
        }
        self.0.read_exact(&mut vec![0; num_bytes]).unwrap();
        status
    }
}

#[test]
fn ten_thousand_wrong_tokens_change_nothing() {
    with_dashboard("guesses", |dashboard| {
        let (_go, gate) = gate();
        std::thread::scope(|scope| {
            let run = scope.spawn(|| gate.compute_with("threads").unwrap_err());
            let status = until(dashboard, "/api/status", |status| status["tasks"]["running"] == 1);
            let head = format!("POST /api/runs/{}/cancel HTTP/1.1\r\nHost: localhost", status["live"][0]["id"]);
            let request =
                |token: &str| format!("{head}\r\nX-Sprang-Action: cancel\r\nAuthorization: Bearer {token}\r\n\r\n");
            let mut peer = Peer(BufReader::new(connect(dashboard.address())));
            let events = json(dashboard, "/api/log")["events"].as_array().unwrap().len();
            for guess in 0..10_000_u128 {
                // Neighbours of the token, and numbers of its length.
                let near = u128::from_str_radix(dashboard.token(), 16).unwrap() ^ (1 << (guess % 128));
                let wrong = if guess < 128 { near } else { guess };
                assert_eq!(peer.status(&request(&format!("{wrong:032x}"))), 401);
            }
            assert_eq!(
                json(dashboard, "/api/log")["events"].as_array().unwrap().len(),
                events,
                "the log is not flooded"
            );
            assert_eq!(json(dashboard, "/api/status")["runs"]["cancelled"], 0);
            assert_eq!(peer.status(&request(dashboard.token())), 202);
            assert_eq!(run.join().unwrap().kind(), ErrorKind::Cancelled);
        });
    });
}

#[test]
fn two_hundred_connections_that_stop_midway_delay_nobody() {
    with_dashboard("connections that stop midway", |dashboard| {
        let parts: [&[u8]; 5] = [
            b"",
            b"GET",
            b"GET /api/status HTTP/1.1\r\nHost: localhost\r\nX-More: ",
            b"POST /api/runs/1/cancel HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999\r\n\r\n{",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ];
        let peers: Vec<_> = (0..200)
            .map(|i| {
                let mut peer = connect(dashboard.address());
                peer.write_all(parts[i % parts.len()]).unwrap();
                peer
            })
            .collect();
        assert_eq!(squares(10).compute_with("threads").unwrap(), 285);
        for _ in 0..20 {
            assert_eq!(json(dashboard, "/api/status")["tasks"]["finished"], 11);
        }
        drop(peers);
        assert_eq!(get(dashboard, "/health").status, 200);
    });
}

#[test]
fn a_body_without_end_is_not_read() {
    with_dashboard("a body without end", |dashboard| {
        let head = "POST /api/runs/1/cancel HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut peer = connect(dashboard.address());
        peer.write_all(head.as_bytes()).unwrap();
        let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        // The server closes the connection long before it has taken this much.
        let taken = (0..10_000).take_while(|_| peer.write_all(piece.as_bytes()).is_ok()).count();
        assert!(taken < 10_000, "{taken} pieces");
        // A head without end is refused.
        let mut peer = connect(dashboard.address());
        peer.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n").unwrap();
        let line = format!("X-More: {}\r\n", "x".repeat(1000));
        let taken = (0..100_000).take_while(|_| peer.write_all(line.as_bytes()).is_ok()).count();
        assert!(taken < 100_000, "{taken} lines");
        let mut path = connect(dashboard.address());
        let _refused = path.write_all(format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20)).as_bytes());
        let mut answer = Vec::new();
        let _reset = path.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
        assert_eq!(get(dashboard, "/health").status, 200);
    });
}

#[test]
fn names_with_markup_control_characters_and_a_megabyte_are_data() {
    with_dashboard("names", |dashboard| {
        let nasty = [
            "<script>alert(1)</script>".to_owned(),
            "\"}],\n\r\u{0}\u{1b}[31m\u{7f}\u{2028}\u{202e}\\".to_owned(),
            "data: x\n\nevent: update\ndata: {}\n\n".to_owned(),
            "a\\\"} 1\nsprang_evil 7\n# EOF".to_owned(),
            "é".repeat(1 << 20),
        ];
        let tasks: Vec<_> = nasty
            .iter()
            .map(|name| try_delayed(|name: String| Err::<(), _>(name), (name.clone(),)).name(name.clone()))
            .collect();
        let mut page = crate::client::updates(dashboard);
        let _errors = config::scoped("errors", "collect").unwrap();
        assert!(compute_each(&tasks).unwrap().iter().all(Result::is_err));
        let update = page.find(|update: &Value| update["tasks"]["failed"] == nasty.len()).unwrap();
        assert!(update.to_string().len() < 100_000);
        // Each is JSON, which `json` checks, and of a bounded size.
        for path in ["/api/status", "/api/runs", "/api/tasks", "/api/log", "/api/workers"] {
            assert!(json(dashboard, path).to_string().len() < 100_000, "{path}");
        }
        let tasks = json(dashboard, "/api/tasks");
        let shown: Vec<_> = tasks["tasks"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
        assert!(nasty[..4].iter().all(|name| shown.contains(&name.as_str())), "{shown:?}");
        let run = json(dashboard, "/api/runs")["runs"][0]["id"].clone();
        json(dashboard, &format!("/api/runs/{run}/graph"));
        json(dashboard, &format!("/api/runs/{run}/trace.json"));
        let report = get(dashboard, &format!("/api/runs/{run}/report.html"));
        assert!(report.head.contains("content-disposition: attachment") && !report.body.contains("<script>alert"));
        let metrics = get(dashboard, "/metrics").body;
        assert!(metrics.len() < 100_000 && !metrics.lines().any(|line| line.starts_with("sprang_evil")), "{metrics}");
        assert_eq!(metrics.lines().filter(|line| *line == "# EOF").count(), 1);
        assert_eq!(delayed(|| 7, ()).compute_with("threads").unwrap(), 7);
    });
}
