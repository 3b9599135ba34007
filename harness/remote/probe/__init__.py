"""One look at the box: many questions in one round trip."""
