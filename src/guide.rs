//! The guides, one page for each topic. They are also the files in `docs` of the repository.

#[cfg(any(not(doctest), target_os = "linux"))]
pub mod futures {
    #![doc = include_str!("../docs/futures.md")]
}

#[cfg(any(not(doctest), target_os = "linux"))]
pub mod collections {
    #![doc = include_str!("../docs/collections.md")]
}

#[cfg(any(not(doctest), target_os = "linux"))]
pub mod from_dask {
    #![doc = include_str!("../docs/from_dask.md")]
}

#[cfg(any(not(doctest), target_os = "linux"))]
pub mod processes {
    #![doc = include_str!("../docs/processes.md")]
}

pub mod debugging {
    #![doc = include_str!("../docs/debugging.md")]
}

pub mod configuration {
    #![doc = include_str!("../docs/configuration.md")]
}

#[cfg(any(not(doctest), feature = "dashboard"))]
pub mod dashboard {
    #![doc = include_str!("../docs/dashboard.md")]
}
