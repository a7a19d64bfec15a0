// Calls the step and the head with random sizes and numbers, in memory of exactly the size
// that they may touch, so that a sanitizer sees every step beyond it. Follows the step's source.
#include <cstdio>
#include <cstdlib>
#include <memory>

static uint64_t source;                   // a quick generator (Knuth's MMIX) serves as well
static int upto(int least, int most) {
    source = source*6364136223846793005u + 1442695040888963407u;
    return least + int((source >> 33) % unsigned(most - least + 1));
}

struct Room {                             // memory of its own for each array
    std::vector<std::unique_ptr<float[]>> floats;
    std::vector<std::unique_ptr<int8_t[]>> bytes;
    int odd = 0;                          // one number of so many is none; 0: all are numbers
    float number() {
        static const float strange[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-42f};
        if (odd && upto(1, odd) == 1) return strange[upto(0, 5)];
        return upto(-1000, 1000)/500.f;
    }
    void fill(float*& at, int64_t count) {
        floats.emplace_back(at = new float[count]);
        for (int64_t i = 0; i < count; i++) at[i] = number();
    }
    void fill(int8_t*& at, int64_t count) {
        bytes.emplace_back(at = new int8_t[count]);
        for (int64_t i = 0; i < count; i++) at[i] = int8_t(upto(-127, 127));
    }
    float* some(int64_t count) { float* at; fill(at, count); return at; }
    Norm norm() { return {some(DIM), some(DIM)}; }
    Linear<Weight> linear(int64_t rows, int64_t width) {
        Weight* weight;
        fill(weight, rows*width);
        return {weight, sizeof(Weight) == 1 ? some(rows) : nullptr, some(rows)};
    }
    Layer layer() {
        return {norm(), norm(), norm(), linear(3*DIM, DIM), linear(DIM, DIM), linear(DIM, DIM),
                linear(DIM, DIM), linear(WIDE, DIM), linear(DIM, WIDE)};
    }
};

static void demand(bool fact, const char* what) {
    if (fact) return;
    std::fprintf(stderr, "not so: %s\n", what);
    std::exit(1);
}

static void call(int64_t batch, int64_t places, int64_t cells, int odd) {
    Room room;
    room.odd = odd;
    const int count = upto(1, 2), threads = upto(1, 3);
    const int64_t position = upto(0, int(places) - 1), rows = upto(1, 13);
    std::vector<Layer> layers;
    std::vector<Cache> pasts, images;
    for (int l = 0; l < count; l++) {
        layers.push_back(room.layer());
        pasts.push_back({room.some(batch*DIM*places), room.some(batch*DIM*places)});
        images.push_back({room.some(batch*DIM*cells), room.some(batch*DIM*cells)});
    }
    float *x = room.some(batch*DIM), *y = room.some(batch*rows);
    auto run = [&](int64_t b, int64_t at, int64_t p, int64_t c) {
        return step(layers.data(), count, x, b, at, pasts.data(), p, images.data(), c, threads);
    };
    const int64_t huge = int64_t(1) << 40;
    demand(run(batch, places, places, cells) == 1, "a place beyond the last is refused");
    demand(run(batch, -1, places, cells) == 1, "a place before the first is refused");
    demand(run(-1, position, places, cells) == 1, "a negative batch is refused");
    demand(run(huge, position, places, cells) == 1, "a huge batch is refused");
    demand(run(batch, position, huge, cells) == 1, "huge room is refused");
    demand(run(batch, position, places, huge) == 1, "a huge image is refused");
    demand(run(batch, position, places, cells) == 0, "a step is done");
    const float *weight = room.some(rows*DIM), *bias = room.some(rows);
    demand(head(weight, bias, x, y, batch, huge, threads) == 1, "huge rows are refused");
    demand(head(weight, bias, x, y, batch, rows, threads) == 0, "a head is done");
    if (odd) return;
    for (int64_t b = 0; b < batch; b++) for (int64_t row = 0; row < rows; row++) {
        double sum = bias[row], size = std::abs(sum);
        for (int i = 0; i < DIM; i++) {
            sum += double(weight[row*DIM + i])*x[b*DIM + i];
            size += std::abs(double(weight[row*DIM + i])*x[b*DIM + i]);
        }
        demand(std::abs(y[b*rows + row] - sum) <= 1e-5*(1 + size), "a product is right");
    }
}

int main(int, char** words) {             // seed, calls
    source = uint64_t(std::atoi(words[1]));
    const int calls = std::atoi(words[2]);
    for (int i = 0; i < calls; i++) call(i % 34, upto(1, 40), upto(1, 40), i % 3 ? 0 : upto(1, 40));
    std::printf("%d clean\n", calls);
}
