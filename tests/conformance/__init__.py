"""The official `openai` clients (Python, sync and async; Node; LangChain) in front of the running router."""
