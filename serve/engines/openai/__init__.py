"""The engine that is a server with OpenAI's API elsewhere, such as `vllm serve`."""
