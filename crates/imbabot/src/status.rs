//! What there is to tell of a daemon, for the page, `/api/status` and the verb `status` alike: what the
//! daemon says of itself, and how its work stands in the store. Shows nothing itself.

pub(crate) mod instances;
pub(crate) mod phrases;
pub(crate) mod seen;
pub(crate) mod server;
pub(crate) mod work;
