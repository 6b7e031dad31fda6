"""The arrival of bytes, from the hub or from a destination: found here, resumed, verified."""
