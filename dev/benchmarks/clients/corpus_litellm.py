"""LiteLLM's Router with `fallbacks`, in the environment of peers.litellm().

One Router has a deployment for each entry and one that is healthy. `options` are the Router's.
"""
import litellm
from litellm import Router

from benchmarks.clients.corpus_client import KEY, MESSAGES, MODEL, main

BACKUP = "backup"


def prepare(order):
    litellm.suppress_debug_info = True
    base_urls = {entry_id: order.base_url(entry_id) for entry_id in order.ids}
    base_urls[BACKUP] = order.healthy
    router = Router(
        model_list=[
            {
                "model_name": name,
                "litellm_params": {
                    "model": "openai/" + MODEL, "api_base": base_url, "api_key": KEY,
                },
            }
            for name, base_url in base_urls.items()
        ],
        fallbacks=[{entry_id: [BACKUP]} for entry_id in order.ids],
        **order.options,
    )

    def asker(name):
        def ask():
            answer = router.completion(model=name, messages=MESSAGES)
            return answer.choices[0].message.content

        return ask

    return {entry_id: asker(entry_id) for entry_id in order.ids}


if __name__ == "__main__":
    main(prepare)
