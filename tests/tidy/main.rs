//! Rules of the tree that no compiler knows: who may depend on whom, and what files may say.

mod depends;
mod logs;
mod rules;
mod tree;
