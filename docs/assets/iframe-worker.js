// Lets the search of a site that is read from the disk work: browsers start no worker from a file.
// A hidden frame takes the worker's place. It loads the same script, whose postMessage and
// importScripts are replaced by ones that talk to this page and load by tags.
if (location.protocol === "file:") {
  const inside = () => {
    window.postMessage = (data) => parent.dispatchEvent(
      new CustomEvent("frame-worker", { detail: { data, frame: window.frameElement } }))
    const load = (address) => new Promise((done) => {
      const tag = document.createElement("script")
      tag.src = address
      tag.onload = done
      document.body.appendChild(tag)
    })
    window.importScripts = (...addresses) =>
      addresses.reduce((before, each) => before.then(() => load(each)), Promise.resolve())
  }

  window.Worker = class extends EventTarget {
    constructor(address) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.body.appendChild(this.frame)
      const page = this.frame.contentWindow.document
      page.open()
      page.write(`<body><script>(${inside})()</script><script src="${address}"></script></body>`)
      page.close()
      this.ready = new Promise((done) => { this.frame.contentWindow.onload = done })
      window.addEventListener("frame-worker", ({ detail: { data, frame } }) => {
        if (frame !== this.frame) return
        const message = new MessageEvent("message", { data })
        this.dispatchEvent(message)
        if (this.onmessage) this.onmessage(message)
      })
    }

    postMessage(data) {
      this.ready.then(() =>
        this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })))
    }

    terminate() {
      this.frame.remove()
    }
  }
}
