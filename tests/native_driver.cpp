// Calls the step and the head with random sizes and numbers. Each array lies in memory of exactly
// its size, so that a sanitizer sees every access beyond it. Build it with -I pix2seq.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include "step.cpp"

static uint64_t state;                    // of a linear congruential generator (Knuth's MMIX)
static int between(int least, int most) { // a random number, both ends included
    state = state*6364136223846793005u + 1442695040888963407u;
    return least + int((state >> 33) % unsigned(most - least + 1));
}

struct Memory {                           // a block of its own for each array
    std::vector<std::unique_ptr<float[]>> floats;
    std::vector<std::unique_ptr<int8_t[]>> bytes;
    int odd = 0;                          // one number in so many is extreme or no number; 0: none
    float number() {
        static const float extreme[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-42f};
        if (odd && between(1, odd) == 1) return extreme[between(0, 5)];
        return between(-1000, 1000)/500.f;
    }
    void fill(float*& at, int64_t count) {
        floats.emplace_back(at = new float[count]);
        for (int64_t i = 0; i < count; i++) at[i] = number();
    }
    void fill(int8_t*& at, int64_t count) {
        bytes.emplace_back(at = new int8_t[count]);
        for (int64_t i = 0; i < count; i++) at[i] = int8_t(between(-127, 127));
    }
    float* floats_of(int64_t count) { float* at; fill(at, count); return at; }
    Norm norm() { return {floats_of(DIM), floats_of(DIM)}; }
    Linear<Weight> linear(int64_t rows, int64_t width) {
        Weight* weight;
        fill(weight, rows*width);
        return {weight, sizeof(Weight) == 1 ? floats_of(rows) : nullptr, floats_of(rows)};
    }
    Layer layer() {
        return {norm(), norm(), norm(), linear(3*DIM, DIM), linear(DIM, DIM), linear(DIM, DIM),
                linear(DIM, DIM), linear(WIDE, DIM), linear(DIM, WIDE)};
    }
};

static void require(bool fact, const char* what) {
    if (fact) return;
    std::fprintf(stderr, "failed: %s\n", what);
    std::exit(1);
}

static void call(int64_t batch, int64_t places, int64_t cells, int odd) {
    Memory memory;
    memory.odd = odd;
    const int count = between(1, 2), threads = between(1, 3);
    const int64_t position = between(0, int(places) - 1), rows = between(1, 13);
    std::vector<Layer> layers;
    std::vector<Cache> pasts, images;
    for (int l = 0; l < count; l++) {
        layers.push_back(memory.layer());
        pasts.push_back({memory.floats_of(batch*DIM*places), memory.floats_of(batch*DIM*places)});
        images.push_back({memory.floats_of(batch*DIM*cells), memory.floats_of(batch*DIM*cells)});
    }
    float *x = memory.floats_of(batch*DIM), *y = memory.floats_of(batch*rows);
    auto run = [&](int64_t b, int64_t at, int64_t p, int64_t c) {
        return step(layers.data(), count, x, b, at, pasts.data(), p, images.data(), c, threads);
    };
    const int64_t huge = int64_t(1) << 40;
    require(run(batch, places, places, cells) == 1, "a place beyond the last is refused");
    require(run(batch, -1, places, cells) == 1, "a place before the first is refused");
    require(run(-1, position, places, cells) == 1, "a negative batch is refused");
    require(run(huge, position, places, cells) == 1, "a huge batch is refused");
    require(run(batch, position, huge, cells) == 1, "huge room is refused");
    require(run(batch, position, places, huge) == 1, "a huge image is refused");
    require(run(batch, position, places, cells) == 0, "a step is done");
    const float *weight = memory.floats_of(rows*DIM), *bias = memory.floats_of(rows);
    require(head(weight, bias, x, y, batch, huge, threads) == 1, "huge rows are refused");
    require(head(weight, bias, x, y, batch, rows, threads) == 0, "a head is done");
    if (odd) return;
    for (int64_t b = 0; b < batch; b++) for (int64_t row = 0; row < rows; row++) {
        double sum = bias[row], size = std::abs(sum);
        for (int i = 0; i < DIM; i++) {
            sum += double(weight[row*DIM + i])*x[b*DIM + i];
            size += std::abs(double(weight[row*DIM + i])*x[b*DIM + i]);
        }
        require(std::abs(y[b*rows + row] - sum) <= 1e-5*(1 + size), "a product is right");
    }
}

int main(int, char** words) {             // seed, calls
    state = uint64_t(std::atoi(words[1]));
    const int calls = std::atoi(words[2]);
    for (int i = 0; i < calls; i++) {
        const int64_t places = between(1, 40), cells = between(1, 40);
        call(i % 34, places, cells, i % 3 ? 0 : between(1, 40));
    }
    std::printf("%d clean\n", calls);
}
