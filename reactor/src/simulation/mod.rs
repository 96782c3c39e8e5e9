mod lane;
mod link;
mod random;
