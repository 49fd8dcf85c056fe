"""Long runs on the capstone's presets."""
