//! Small mistakes, made on purpose, to see whether anything notices.
