"""What runs the code that users bring: sandboxes, environments, containers, model servers."""
