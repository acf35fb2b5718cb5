//! Reads processes, descriptors, threads and shared memory from the system.

use std::fs;

/// The children of this process that it has not waited for, with their states; `Z` marks one that
/// has ended.
pub(crate) fn children() -> Vec<(u32, char)> {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        // The name, in brackets, may contain any character.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?.chars().next()?;
        (fields.next()? == own).then_some((pid, state))
    });
    processes.collect()
}

pub(crate) fn is_there(pid: u32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}

pub(crate) fn num_fds() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The names of this process's threads that begin like this.
pub(crate) fn threads(prefix: &str) -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).filter(|name| name.starts_with(prefix)).collect()
}

/// How many bytes of shared memory a process has mapped.
pub(crate) fn shared_bytes(pid: u32) -> usize {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let of_line = |line: &str| {
        let (range, _) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).unwrap();
        (line.contains("memfd:") || line.contains("/dev/shm/")).then(|| address(end) - address(start))
    };
    maps.lines().filter_map(of_line).sum()
}

/// Adds up this process and its children.
pub(crate) fn all_shared_bytes() -> usize {
    shared_bytes(std::process::id()) + children().into_iter().map(|(pid, _)| shared_bytes(pid)).sum::<usize>()
}
