"""From tables and programs to an `Image`: pure, same input, same output; no kernel, no clock."""
