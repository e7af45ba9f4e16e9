"""OpenCLIP's folders and state dicts, both ways: `open_clip_config.json` beside `open_clip_model.safetensors`."""
