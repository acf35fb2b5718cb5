//! `sprang info`: the cores, memory and limits of this machine.

use serde_json::json;
use sprang::SystemInfo;

pub(super) fn run(as_json: bool) -> String {
    let system = SystemInfo::detect();
    if !as_json {
        return format!("{system}\n");
    }
    let json = json!({
        "version": system.version,
        "platform": system.platform,
        "num_cores": system.num_cores,
        "num_cores_online": system.num_cores_online,
        "num_cores_allowed": system.num_cores_allowed,
        "cpu_quota": system.cpu_quota,
        "memory_bytes": system.memory_bytes,
        "available_memory_bytes": system.available_memory_bytes,
        "memory_limit_bytes": system.memory_limit_bytes,
        "shared_memory_limit_bytes": system.shared_memory_limit_bytes,
        "max_open_files": system.max_open_files,
        "hook_ran": system.hook_ran,
        "workers_refused": system.workers_refused,
    });
    format!("{json:#}\n")
}
