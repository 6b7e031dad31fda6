"""The sample hub: generated repositories, and a loopback server that speaks the hub's API.

The server is for the real ``huggingface_hub`` client, so that everything after the URL is the same
code for the sample and for the real hub. What belongs here is what a hub has and does; what is
done with the downloaded files belongs elsewhere.
"""
