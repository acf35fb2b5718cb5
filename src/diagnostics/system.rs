//! The resources of this machine that this process can use: cores, memory, worker processes.
//!
//! Facts that the system does not report are `None`; nothing here fails.

use crate::api::config;
use crate::executor::processes::{self, boot};
use crate::executor::threads::num_cores;
use std::fmt;

/// The environment that sprang runs in, for a program's log at its start and for bug reports.
///
/// # Examples
/// ```
/// let system = sprang::SystemInfo::detect();
/// assert!(system.num_cores >= 1);
/// if cfg!(target_os = "linux") {
///     assert!(system.hook_ran && system.workers_refused.is_none());
/// }
/// println!("{system}");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SystemInfo {
    /// The version of sprang.
    pub version: &'static str,
    /// The operating system, its version where known, and the architecture.
    pub platform: String,
    /// The default number of threads: the cores that this process may use, by its affinity and the
    /// quotas of its cgroups.
    pub num_cores: usize,
    /// The cores that are online.
    pub num_cores_online: Option<usize>,
    /// The cores that this process may run on, by its affinity.
    pub num_cores_allowed: Option<usize>,
    /// The CPU quota of the cgroups of this process, in cores.
    pub cpu_quota: Option<f64>,
    /// The memory of the machine.
    pub memory_bytes: Option<u64>,
    /// The part of the memory that is available now.
    pub available_memory_bytes: Option<u64>,
    /// The memory limit of the cgroups of this process.
    pub memory_limit_bytes: Option<u64>,
    /// The limit of shared memory for the values of worker processes, by the setting
    /// `processes.shared_memory_limit`.
    pub shared_memory_limit_bytes: Option<u64>,
    /// How many files this process may have open. Each region of shared memory is one.
    pub max_open_files: Option<u64>,
    /// Whether sprang's function before `main` has run.
    pub hook_ran: bool,
    /// Why this process cannot start worker processes; `None` if it can.
    pub workers_refused: Option<String>,
}

impl SystemInfo {
    /// Reads the facts from the system and from the configuration.
    pub fn detect() -> Self {
        let settings = config::settings().map(|settings| settings.processes.clone()).unwrap_or_default();
        let memory_bytes = platform::memory("MemTotal:");
        SystemInfo {
            version: env!("CARGO_PKG_VERSION"),
            platform: format!("{} {}", platform::name(), std::env::consts::ARCH),
            num_cores: num_cores(),
            num_cores_online: platform::num_cores_online(),
            num_cores_allowed: platform::num_cores_allowed(),
            cpu_quota: platform::cpu_quota(),
            memory_bytes,
            available_memory_bytes: platform::memory("MemAvailable:"),
            // Cgroups v1 report a huge number where they have no limit.
            memory_limit_bytes: platform::memory_limit()
                .filter(|limit| memory_bytes.is_none_or(|bytes| *limit < bytes)),
            shared_memory_limit_bytes: processes::shared_memory_limit(&settings),
            max_open_files: platform::max_open_files(),
            hook_ran: boot::hook_ran(),
            workers_refused: boot::refusal(),
        }
    }
}

impl fmt::Display for SystemInfo {
    /// One line for each fact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |bytes: u64| bytesize::ByteSize::b(bytes).display().iec().to_string();
        writeln!(f, "sprang:          {}", self.version)?;
        writeln!(f, "platform:        {}", self.platform)?;
        write!(f, "cores:           {}", self.num_cores)?;
        let mut reasons = Vec::new();
        reasons.extend(self.num_cores_online.map(|online| format!("{online} online")));
        reasons.extend(self.num_cores_allowed.map(|allowed| format!("{allowed} allowed by the affinity")));
        if self.num_cores_online.is_some() {
            reasons.push(
                self.cpu_quota.map_or("no cgroup quota".to_owned(), |quota| format!("a cgroup quota of {quota:.2}")),
            );
        }
        match &reasons[..] {
            [] => writeln!(f)?,
            reasons => writeln!(f, " ({})", reasons.join(", "))?,
        }
        if let Some(memory) = self.memory_bytes {
            write!(f, "memory:          {}", bytes(memory))?;
            if let Some(available) = self.available_memory_bytes {
                write!(f, ", {} available", bytes(available))?;
            }
            match self.memory_limit_bytes {
                Some(limit) => writeln!(f, ", a cgroup limit of {}", bytes(limit))?,
                None => writeln!(f, ", no cgroup limit")?,
            }
        }
        if let Some(limit) = self.shared_memory_limit_bytes {
            writeln!(f, "shared memory:   {} for the values of worker processes", bytes(limit))?;
        }
        if let Some(files) = self.max_open_files {
            writeln!(f, "open files:      {files}")?;
        }
        writeln!(f, "start-up hook:   {}", if self.hook_ran { "has run" } else { "has not run" })?;
        match &self.workers_refused {
            None => write!(f, "worker processes can be started"),
            Some(refusal) => write!(f, "{refusal}"),
        }
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
mod platform {
    use std::fs;
    use std::path::{Path, PathBuf};

    pub(super) fn name() -> String {
        let name = rustix::system::uname();
        format!("{} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy())
    }

    pub(super) fn memory(key: &str) -> Option<u64> {
        let info = fs::read_to_string("/proc/meminfo").ok()?;
        let line = info.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    }

    /// Parses a list such as `0-3,7`.
    pub(super) fn num_cores_online() -> Option<usize> {
        let online = fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
        let spans = online.trim().split(',').map(|span| {
            let (first, last) = span.split_once('-').unwrap_or((span, span));
            last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?).map(|more| more + 1)
        });
        spans.sum()
    }

    pub(super) fn num_cores_allowed() -> Option<usize> {
        rustix::thread::sched_getaffinity(None).ok().map(|cores| cores.count() as usize)
    }

    pub(super) fn max_open_files() -> Option<u64> {
        rustix::process::getrlimit(rustix::process::Resource::Nofile).current
    }

    /// The lowest quota of the cgroups that this process is in.
    pub(super) fn cpu_quota() -> Option<f64> {
        let of_v2 = cgroups(None).into_iter().filter_map(|cgroup| {
            let text = fs::read_to_string(cgroup.join("cpu.max")).ok()?;
            let (quota, period) = text.trim().split_once(' ')?;
            Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
        });
        let of_v1 = cgroups(Some("cpu")).into_iter().filter_map(|cgroup| {
            let number = |file: &str| fs::read_to_string(cgroup.join(file)).ok()?.trim().parse::<f64>().ok();
            Some(number("cpu.cfs_quota_us").filter(|quota| *quota > 0.0)? / number("cpu.cfs_period_us")?)
        });
        of_v2.chain(of_v1).reduce(f64::min)
    }

    pub(super) fn memory_limit() -> Option<u64> {
        let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let of_v2 = cgroups(None).into_iter().filter_map(|cgroup| number(cgroup.join("memory.max")));
        let of_v1 =
            cgroups(Some("memory")).into_iter().filter_map(|cgroup| number(cgroup.join("memory.limit_in_bytes")));
        of_v2.chain(of_v1).min()
    }

    /// The folders of the cgroups that this process is in, innermost first: of cgroups v2, or of v1
    /// for a controller.
    fn cgroups(controller: Option<&str>) -> Vec<PathBuf> {
        let of_process = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        parse(&of_process, &mounts, controller, |path| path.is_dir())
    }

    fn parse(of_process: &str, mounts: &str, controller: Option<&str>, is_dir: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
        let has = |list: &str| controller.is_some_and(|controller| list.split(',').any(|name| name == controller));
        // `4:memory:/a/b`, or `0::/a/b` for v2.
        let path = of_process.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            (has(controllers) || (controller.is_none() && controllers.is_empty())).then_some(path)
        });
        // `32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu`: root, mount point
        // and, after a dash, type and options.
        let mount = mounts.lines().find_map(|line| {
            let (location, kind) = line.split_once(" - ")?;
            let mut location = location.split(' ').skip(3);
            let (root, point) = (location.next()?, location.next()?);
            let mut kind = kind.split(' ');
            let matches = match (kind.next()?, controller) {
                ("cgroup2", None) => true,
                ("cgroup", Some(_)) => has(kind.nth(1)?),
                _ => false,
            };
            matches.then_some((root, Path::new(point)))
        });
        let (Some(path), Some((root, point))) = (path, mount) else { return Vec::new() };
        // The mount may show a part of the tree, and the cgroup of this process may lie outside it.
        let inside = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        let innermost = point.join(inside.strip_prefix("/").unwrap_or(inside));
        let up = innermost.ancestors().take_while(|folder| folder.starts_with(point));
        up.filter(|folder| is_dir(folder)).map(Path::to_owned).collect()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        const MOUNTS: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
            33 31 0:30 /docker/1 /sys/fs/cgroup/memory rw,relatime shared:1 - cgroup cgroup rw,memory\n\
            34 31 0:31 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        const PROCESS: &str = "4:memory:/docker/1/job\n2:cpu,cpuacct:/a/b\n0::/user/me\n";

        fn found(controller: Option<&str>, is_dir: fn(&Path) -> bool) -> Vec<String> {
            parse(PROCESS, MOUNTS, controller, is_dir).iter().map(|path| path.display().to_string()).collect()
        }

        #[test]
        fn cgroups_are_found_from_the_innermost_to_the_mount_point() {
            let all = |_: &Path| true;
            assert_eq!(
                found(None, all),
                ["/sys/fs/cgroup/unified/user/me", "/sys/fs/cgroup/unified/user", "/sys/fs/cgroup/unified"]
            );
            assert_eq!(
                found(Some("cpu"), all),
                ["/sys/fs/cgroup/cpu/a/b", "/sys/fs/cgroup/cpu/a", "/sys/fs/cgroup/cpu"]
            );
            assert_eq!(found(Some("memory"), all), ["/sys/fs/cgroup/memory/job", "/sys/fs/cgroup/memory"]);
            assert_eq!(found(Some("memory"), |path| !path.ends_with("job")), ["/sys/fs/cgroup/memory"]);
            assert!(found(Some("pids"), all).is_empty());
        }

        #[test]
        fn a_process_has_no_more_cores_than_there_are() {
            let (online, allowed) = (num_cores_online().unwrap(), num_cores_allowed().unwrap());
            assert!(allowed >= 1 && allowed <= online, "{allowed} of {online}");
            assert!(memory("MemAvailable:").unwrap() < memory("MemTotal:").unwrap());
        }
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
mod platform {
    pub(super) fn name() -> String {
        if cfg!(miri) { "Miri".to_owned() } else { std::env::consts::OS.to_owned() }
    }

    pub(super) fn memory(_: &str) -> Option<u64> {
        None
    }

    macro_rules! unknown {
        ($($name:ident $type:ty),*) => {
            $(pub(super) fn $name() -> Option<$type> {
                None
            })*
        };
    }

    unknown!(num_cores_online usize, num_cores_allowed usize, max_open_files u64, cpu_quota f64, memory_limit u64);
}
