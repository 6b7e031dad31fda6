"""Where raw bytes come from: the Hugging Face Hub, or a sample of it on this machine."""
