"""The pack's configuration, read and checked: settings, budget and retention."""
