"""Which network a callback works on, what it is fed, and which structural changes made it."""
