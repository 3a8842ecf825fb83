//! A core dump holds the memory of the process, and in it the secret key: none is written unless somebody
//! who looks for a fault says so.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Set to `1`, this variable leaves the limit of core dumps as it is.
const WANTED: &str = "IMBABOT_CORE_DUMPS";

/// From here on the process leaves no core dump, unless it is told to.
pub(crate) fn none() {
    if std::env::var_os(WANTED).is_some_and(|wanted| wanted == "1") {
        return;
    }
    let maximum = getrlimit(Resource::Core).maximum;
    // The hard limit stays: whoever starts a child may allow it what was allowed here.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
}
