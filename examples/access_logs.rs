//! Sessions by user and the most visited pages, from the access logs of a web server.
//!
//! The program writes its logs into a temporary folder, reads them as a bag, and compares with a
//! plain loop. The configuration chooses the scheduler, for example `SPRANG_SCHEDULER=processes`.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use serde::{Deserialize, Serialize};
use sprang::{bag, compute};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// A user who is away for longer begins another session.
const PAUSE_SECONDS: u32 = 1800;
const NUM_DAYS: u32 = 8;
const REQUESTS_PER_DAY: u32 = 20_000;

/// A line of a log.
#[derive(Clone, Serialize, Deserialize)]
struct Request {
    seconds: u32,
    user: String,
    page: String,
    bytes: u64,
}

/// Reads a line such as `86400 alice GET /a.html 512`.
fn parse(line: &str) -> Result<Request, Box<dyn Error + Send + Sync>> {
    let mut fields = line.split(' ');
    let mut next = || fields.next().ok_or("the line is too short");
    let (seconds, user) = (next()?.parse()?, next()?.to_owned());
    let (_method, page, bytes) = (next()?, next()?.to_owned(), next()?.parse()?);
    Ok(Request { seconds, user, page, bytes })
}

/// The number of sessions with requests at these times.
fn num_sessions(mut times: Vec<u32>) -> usize {
    times.sort_unstable();
    1 + times.windows(2).filter(|pair| pair[1] - pair[0] > PAUSE_SECONDS).count()
}

/// Writes one log for each day.
fn write_logs(folder: &Path) -> std::io::Result<()> {
    let mut state = 7_u64;
    let mut random = |below: u32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % u64::from(below)) as u32
    };
    for day in 0..NUM_DAYS {
        let mut log = "# seconds user method page bytes\n".to_owned();
        for request in 0..REQUESTS_PER_DAY {
            let seconds = day * 86_400 + request * 86_400 / REQUESTS_PER_DAY;
            let (user, page) = (random(500), random(60) * random(60) / 60);
            writeln!(log, "{seconds} user{user} GET /{page}.html {}", 200 + random(4000)).expect("a string takes it");
        }
        fs::write(folder.join(format!("day-{day}.log")), log)?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    write_logs(folder.path())?;
    let pattern = folder.path().join("*.log").display().to_string();

    // The three outputs share the parsed requests, because the chain is cut before them.
    let lines = bag::TextFiles::new(&pattern).block_bytes(1 << 20).read()?;
    let requests = lines.filter(|line| !line.starts_with('#')).try_map(parse).cut();
    let times = requests.foldby(
        |request| request.user.clone(),
        Vec::new,
        |times, request| times.push(request.seconds),
        |a, b| [a, b].concat(),
    );
    let sessions = times.map(|(user, times)| (user, num_sessions(times)));
    let busiest = sessions.topk_by_key(3, |(_, sessions)| *sessions);
    let pages = requests.map(|request| request.page).frequencies().topk_by_key(3, |(_, visits)| *visits);
    let bytes = requests.map(|request| request.bytes).sum();
    let (sessions, busiest, pages, bytes) = compute((&sessions, &busiest, &pages, &bytes))?;

    println!("{} users, {bytes} bytes in {} partitions", sessions.len(), requests.num_partitions());
    busiest.iter().for_each(|(user, sessions)| println!("{user}: {sessions} sessions"));
    pages.iter().for_each(|(page, visits)| println!("{page}: {visits} visits"));

    // The same in a plain loop.
    let mut times_of: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    let mut visits_of: BTreeMap<String, u64> = BTreeMap::new();
    let mut sum = 0;
    for day in 0..NUM_DAYS {
        let log = fs::read_to_string(folder.path().join(format!("day-{day}.log")))?;
        for line in log.lines().filter(|line| !line.starts_with('#')) {
            let request = parse(line).map_err(|error| error as Box<dyn Error>)?;
            times_of.entry(request.user).or_default().push(request.seconds);
            *visits_of.entry(request.page).or_default() += 1;
            sum += request.bytes;
        }
    }
    assert_eq!(sum, bytes);
    let expected: BTreeMap<_, _> = times_of.into_iter().map(|(user, times)| (user, num_sessions(times))).collect();
    assert_eq!(sessions.into_iter().collect::<BTreeMap<_, _>>(), expected);
    let mut most: Vec<u64> = visits_of.values().copied().collect();
    most.sort_by(|a, b| b.cmp(a));
    assert_eq!(pages.iter().map(|(_, visits)| *visits).collect::<Vec<_>>(), most[..3]);
    assert!(pages.iter().all(|(page, visits)| visits_of[page] == *visits));
    assert_eq!(busiest[0].1, expected.values().copied().max().unwrap_or(0));
    Ok(())
}
