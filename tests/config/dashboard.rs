//! The setting `dashboard`.

use crate::child::alone;
#[cfg(not(feature = "dashboard"))]
use crate::child::shown;
use crate::get;
use sprang::{ErrorKind, config, delayed};

fn seven() -> sprang::Result<i32> {
    delayed(|| 7, ()).compute_with("sync")
}

#[test]
fn text_that_is_not_an_address_is_refused() {
    for bad in ["here", "127.0.0.1", "127.0.0.1:99999", ":x", "a b:80", ""] {
        let error = config::set("dashboard", bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let message = format!(
            "config::set: \"dashboard\" cannot be {bad:?}; give an address with a port, such as \"127.0.0.1:8787\", or \"none\""
        );
        assert_eq!(error.to_string(), message);
    }
    assert!(config::set("dashboard", true).is_err());
}

#[test]
fn none_is_the_default_and_takes_an_address_back() {
    alone(
        |room| {
            room.file("work/sprang.toml", "dashboard = '127.0.0.1:0'").env("SPRANG_DASHBOARD", "none");
        },
        || {
            assert_eq!(get("dashboard"), "none");
            assert_eq!(config::settings().unwrap().dashboard, None);
            assert_eq!(seven().unwrap(), 7);
        },
    );
}

#[cfg(not(feature = "dashboard"))]
#[test]
fn a_program_without_the_feature_says_so_and_where_the_setting_stands() {
    alone(
        |room| {
            room.file("work/sprang.toml", "\ndashboard = '127.0.0.1:8787'");
        },
        || {
            let error = seven().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let message = format!(
                "\"dashboard\" is \"127.0.0.1:8787\", from {}:2, and this program has none; build it with the feature \"dashboard\" of \
                 sprang, or set \"dashboard\" to \"none\"",
                shown("work/sprang.toml")
            );
            assert_eq!(error.to_string(), message);
            assert_eq!(config::with("dashboard", "none", seven).unwrap().unwrap(), 7);
        },
    );
}

#[cfg(feature = "dashboard")]
mod with_the_feature {
    use super::*;
    use sprang::dashboard;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn status() -> String {
        let dashboard = dashboard::of_the_process().unwrap();
        let mut stream = TcpStream::connect(dashboard.address()).unwrap();
        stream.write_all(b"GET /api/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn the_first_compute_starts_it_and_is_seen_and_no_other_does() {
        alone(
            |room| {
                room.env("SPRANG_DASHBOARD", "127.0.0.1:0");
            },
            || {
                assert!(dashboard::of_the_process().is_none());
                let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(|| seven().unwrap())).collect();
                threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), 7));
                let address = dashboard::of_the_process().unwrap().address();
                assert!(status().contains("\"runs\":{\"running\":0,\"finished\":4,"), "{}", status());
                // A later address has no effect.
                config::with("dashboard", "127.0.0.1:1", seven).unwrap().unwrap();
                assert_eq!(dashboard::of_the_process().unwrap().address(), address);
                assert!(status().contains("\"finished\":5,"), "{}", status());
            },
        );
    }

    #[test]
    fn a_cluster_starts_it_before_its_first_task() {
        alone(
            |room| {
                room.env("SPRANG_DASHBOARD", "127.0.0.1:0");
            },
            || {
                let client = sprang::Client::threads(2).unwrap();
                assert!(dashboard::of_the_process().is_some());
                assert_eq!(client.submit(|| 7, ()).result().unwrap(), 7);
                while !status().contains("\"finished\":1,\"failed\":0,\"retried\":0") {
                    std::thread::yield_now();
                }
            },
        );
    }

    #[test]
    fn a_dashboard_that_cannot_listen_does_not_hold_up_the_run() {
        // An address reserved for documentation, which no machine has.
        alone(
            |room| {
                room.env("SPRANG_DASHBOARD", "192.0.2.1:8787");
            },
            || {
                assert_eq!(seven().unwrap(), 7);
                assert!(dashboard::of_the_process().is_none());
                assert_eq!(seven().unwrap(), 7);
            },
        );
    }

    #[test]
    fn a_taken_port_moves_on() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        alone(
            |room| {
                room.env("SPRANG_DASHBOARD", address.to_string());
            },
            || {
                assert_eq!(seven().unwrap(), 7);
                let wanted = get("dashboard");
                let address = dashboard::of_the_process().unwrap().address();
                assert_ne!(address.to_string(), wanted);
                assert!(address.ip().is_loopback());
            },
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn workers_start_none() {
        alone(
            |room| {
                room.env("SPRANG_DASHBOARD", "127.0.0.1:0");
            },
            || {
                // A task in a worker that computes a graph of its own.
                let nested = || -> sprang::Result<bool> {
                    seven()?;
                    Ok(sprang::dashboard::of_the_process().is_some())
                };
                let nested = sprang::try_delayed(nested, ());
                assert!(!nested.compute_with("processes").unwrap());
                assert!(dashboard::of_the_process().is_some());
            },
        );
    }
}
