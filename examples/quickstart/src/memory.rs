//! The peak memory of the process and its workers, on Linux.

use std::{fs, process};

pub(crate) fn reset_peak() {
    // If this is not allowed, the peak covers all runs so far.
    _ = fs::write("/proc/self/clear_refs", "5");
}

/// The sum of the peaks of this process and its worker processes. Memory that they share counts for
/// each.
pub(crate) fn peak_bytes() -> Option<u64> {
    let workers = children().into_iter().filter_map(peak_bytes_of).sum::<u64>();
    Some(peak_bytes_of(process::id())? + workers)
}

fn peak_bytes_of(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn children() -> Vec<u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| parent_of(pid) == Some(process::id())).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}
