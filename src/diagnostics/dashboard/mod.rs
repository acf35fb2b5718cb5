//! A live view of what runs, in a browser; with the feature `dashboard`.
//!
//! [`serve`] watches all runs of the process from then on and shows them on pages of its own: the task stream, counts and bars by name, what is
//! running, the graph, recent tasks, runs, workers and a log, and reports to download. The same is there as JSON, as a stream of events and
//! as OpenMetrics; `docs/dashboard.md` beside the source has the schema.
//!
//! The setting `dashboard` does what [`serve`] does, without a line in the program: the first compute that sees an address there starts
//! [the dashboard of the process](of_the_process).
//!
//! The `collector` remembers, `held` counts bytes of values, `resources` looks at processors and memory, the `view` says it, the `server`
//! is asked, with the `token` also to cancel and to restart.

mod collector;
mod resources;
mod server;
mod token;
mod value_bytes;
mod view;

use crate::engine::callback::{self, Registration};
use crate::error::{Error, Result};
use collector::Collector;
use server::Server;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, OnceLock};
use token::Token;

/// Shows all runs of this process that start from now on, at this address, until the guard is dropped.
///
/// The address is an IP address or a name with a port: `127.0.0.1:8787`, `localhost:8787`, `[::1]:8787`; or only `:8787`, which is on
/// the loopback address. With port 0 the system chooses. If the port is taken, the next free one of a hundred is; [`Dashboard::url`]
/// tells, and the `log` crate.
///
/// A dashboard that listens on the loopback address is for programs of this machine only. There is no password for reading: who can reach
/// another address can read the names of tasks, and messages of errors. Requests by a name other than `localhost` are refused, so that no
/// page of another site can read along. Nothing can be changed but this: who has the [token](Dashboard::token) can cancel runs and restart
/// worker processes.
///
/// Runs do not wait for pages. Their tasks pay for a lock of their worker's and some counters; a run that starts or ends, as those of futures
/// do, waits at most until an update or an answer has been put together, which takes some milliseconds. What is remembered is limited.
///
/// # Examples
/// ```
/// use sprang::{Refs, dashboard, delayed};
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
///
/// let dashboard = dashboard::serve("127.0.0.1:0")?;
/// assert!(dashboard.url().starts_with("http://127.0.0.1:"));
///
/// let squares: Vec<_> = (0..10_u64).map(|i| delayed(|i| i * i, (i,)).name(format!("square {i}"))).collect();
/// delayed(|all: Refs<u64>| all.iter().sum::<u64>(), (&squares,)).name("sum").compute()?;
///
/// // What a browser would ask for.
/// let mut stream = TcpStream::connect(dashboard.address()).unwrap();
/// stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
/// let mut answer = String::new();
/// stream.read_to_string(&mut answer).unwrap();
/// assert!(answer.contains("sprang_runs_total{outcome=\"finished\"} 1"), "{answer}");
/// # Ok::<_, sprang::Error>(())
/// ```
///
/// # Errors
/// If the address cannot be understood, or not be listened on.
pub fn serve(address: impl AsRef<str>) -> Result<Dashboard> {
    let text = address.as_ref().trim();
    let wanted = parse(text)?;
    let fail = |error: std::io::Error| {
        Error::config(format!("the dashboard cannot listen on {wanted}: {error}"))
            .with_source(Arc::new(error) as Arc<_>)
    };
    let listener = server::bind(wanted).map_err(fail)?;
    let address = listener.local_addr().map_err(fail)?;
    let program = std::env::current_exe().ok();
    let program = program.as_deref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
    let collector = Arc::new(Collector::new());
    let token = Arc::new(Token::new().map_err(fail)?);
    let server = Server::start(listener, Arc::clone(&collector), program.unwrap_or_default(), Arc::clone(&token));
    let (_server, _registration) = (server.map_err(fail)?, callback::register(Arc::<Collector>::clone(&collector)));
    let dashboard = Dashboard { address, token, _registration, _server };
    let url = dashboard.url();
    log::info!("the dashboard is at {url}");
    if wanted.port() != 0 && wanted.port() != address.port() {
        log::warn!("port {} is taken; the dashboard is at {url}", wanted.port());
    }
    if !address.ip().is_loopback() {
        log::warn!("the dashboard can be read by everybody who can reach {address}");
    }
    collector.log("dashboard started", &url);
    Ok(dashboard)
}

/// The dashboard that the setting `dashboard` has started, if it has.
///
/// # Examples
/// ```
/// use sprang::{config, dashboard, delayed};
///
/// assert!(dashboard::of_the_process().is_none());
/// config::set("dashboard", "127.0.0.1:0")?;
/// delayed(|| 1, ()).compute()?;
/// let dashboard = dashboard::of_the_process().expect("the compute has started it");
/// println!("{} takes the token {}", dashboard.url(), dashboard.token());
/// # Ok::<_, sprang::Error>(())
/// ```
pub fn of_the_process() -> Option<&'static Dashboard> {
    OF_THE_PROCESS.get().and_then(Option::as_ref)
}

/// `None` inside if it could not be started. That is tried once.
static OF_THE_PROCESS: OnceLock<Option<Dashboard>> = OnceLock::new();

/// Starts the dashboard of the process, unless that has been tried before.
pub(crate) fn serve_process(address: &str) {
    OF_THE_PROCESS.get_or_init(|| {
        let dashboard = serve(address);
        match &dashboard {
            Ok(dashboard) => {
                log::info!("its token, for those who may cancel runs and restart workers, is {}", dashboard.token())
            }
            Err(error) => log::error!("there is no dashboard: {error}"),
        }
        dashboard.ok()
    });
}

/// The address that a text means.
fn parse(text: &str) -> Result<SocketAddr> {
    if let Some(port) = text.strip_prefix(':').and_then(|port| port.parse().ok()) {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    let bad =
        || Error::config(format!("{text:?} is no address for the dashboard; give one such as \"127.0.0.1:8787\""));
    let mut addresses = text.to_socket_addrs().map_err(|error| bad().with_source(Arc::new(error) as Arc<_>))?;
    addresses.next().ok_or_else(bad)
}

/// A dashboard that is served until it is dropped. Made by [`serve`]. [`std::mem::forget`] keeps it for as long as the program runs.
#[must_use = "the dashboard is served until this guard is dropped: bind it, `let _dashboard = ...`"]
pub struct Dashboard {
    address: SocketAddr,
    token: Arc<Token>,
    // Dropped in this order: nothing more is told, then nobody can ask.
    _registration: Registration,
    _server: Server,
}

impl Dashboard {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to open in a browser of this machine.
    pub fn url(&self) -> String {
        let ip = match self.address.ip() {
            ip if !ip.is_unspecified() => ip,
            _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        format!("http://{}/", SocketAddr::new(ip, self.address.port()))
    }

    /// What cancels runs and restarts worker processes: a page asks for it, a request carries it as `Authorization: Bearer ...`.
    /// A new one for each dashboard.
    pub fn token(&self) -> &str {
        self.token.as_str()
    }
}

impl fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dashboard").field("address", &self.address).finish_non_exhaustive()
    }
}
