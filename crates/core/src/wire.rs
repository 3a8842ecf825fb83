//! How things look on the wire: forms going out, JSON coming in. Shapes stay here; what leaves is
//! a model. Nothing in this module does I/O.

mod broken;
pub(crate) mod decode;
pub(crate) mod lenient;
pub mod multipart;
pub(crate) mod reply;
pub(crate) mod salvage;
pub mod split;

pub use broken::id_in_broken_row;
pub use decode::{DecodeError, decode_room, decode_user};
pub(crate) use reply::{Reply, words_of};
