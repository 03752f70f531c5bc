//! The stream type.

/// A stream.
#[derive(Clone)]
pub struct Stream;
impl Stream {
    pub fn new() -> Stream { Stream }
    pub fn len(&self) -> usize { 0 }
    pub fn free_some(&mut self, _n: usize) -> bool { true }
    pub fn rebuild_commands(&self, _key: &[u8]) -> Vec<Vec<Vec<u8>>> { Vec::new() }
}
